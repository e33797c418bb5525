"""How a registered model is put into service by a platform: one module for each, and its row in PLATFORMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InvalidConfig
from visionloop.core.folders import temporary_folder
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path, normalise_uri
from visionloop.pipelines.deploying import kserve, triton
from visionloop.pipelines.deploying.order import Order


@dataclass(frozen=True)
class Platform:
    """A platform.

    Attributes:
        write: Writes the files of a deployment into an empty folder; returns their paths there, in the order in which they are put into place.
        below: The folder below the one that is named which must be new or empty; empty for that one itself.
    """

    write: Callable[[Order, Path], Sequence[str]]
    below: Callable[[Order], str] = lambda order: ""


#: What a model can be deployed to.
PLATFORMS: Mapping[str, Platform] = {
    "kserve": Platform(kserve.write),
    "triton": Platform(triton.write, triton.version_folder),
}


@dataclass(frozen=True)
class Deployment:
    """What was written.

    Attributes:
        platform: For what.
        name: The name of the deployment there.
        model: The registered name.
        version: Its number.
        folder: The URI of the folder of the files.
        files: Their paths there.
    """

    platform: str
    name: str
    model: str
    version: int
    folder: str
    files: list[str]


def platform(name: str) -> Platform:
    """The platform of a name. Raises InvalidConfig for an unknown one."""
    if name not in PLATFORMS:
        raise InvalidConfig(f"--to {name:.80}: give {' or '.join(PLATFORMS)}.")
    return PLATFORMS[name]


def check_out(out: str) -> str:
    """The URI of the folder that files are put into. Raises InvalidConfig if it is a file, or no place that can be written to."""
    uri = normalise_uri(out)
    path = local_path(uri)
    if path is not None and path.exists() and not path.is_dir():
        raise InvalidConfig(f"--out {out}: this is a file; name a new folder.")
    return uri


def deploy(name: str, order: Order, out: str) -> Deployment:
    """Writes the files of a deployment: all of them are made before the first one is put into place.

    Args:
        name: One of PLATFORMS.
        order: What is deployed, and how.
        out: The folder, or the prefix of a store: new or empty, or with Triton without this version.

    Raises:
        InvalidConfig: If the platform is unknown, the folder holds files, or the model can't be deployed as it is asked for.
        InvalidReceipt: If a file of the model is not the one that was registered.
        OSError: If a file can't be written.
    """
    chosen, uri = platform(name), check_out(out)
    there, below = open_prefix(uri, "results"), chosen.below(order)
    if _holds(there, below):
        what = f"{below}/ of it holds files" if below else "the folder holds files"
        raise InvalidConfig(f"--out {out}: {what} already; name a new or an empty one.")
    with temporary_folder("deployment") as work:
        files = list(chosen.write(order, work))
        for file in files:
            there.upload(work / file, file)
    version = order.version
    return Deployment(name, order.name, version.name, version.number, uri, files)


def _holds(there: Prefix, below: str) -> bool:
    return next(there.objects(below), None) is not None
