"""How a registered model is put into service by a platform: one module for each, and its row in PLATFORMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InvalidConfig
from visionloop.core.files import atomic_write
from visionloop.pipelines.deploying import kserve
from visionloop.pipelines.deploying.order import Order

#: Makes the files of a deployment: their contents by name.
Files = Callable[[Order], Mapping[str, str]]

#: What a model can be deployed to.
PLATFORMS: Mapping[str, Files] = {"kserve": kserve.files}


@dataclass(frozen=True)
class Deployment:
    """What was written.

    Attributes:
        platform: For what.
        name: The name of the deployment there.
        model: The registered name.
        version: Its number.
        folder: Where the files lie.
        files: Their names.
    """

    platform: str
    name: str
    model: str
    version: int
    folder: str
    files: list[str]


def files_of(platform: str) -> Files:
    """What makes the files for a platform. Raises InvalidConfig for an unknown one."""
    if platform not in PLATFORMS:
        raise InvalidConfig(f"--to {platform:.80}: give {' or '.join(PLATFORMS)}.")
    return PLATFORMS[platform]


def check_folder(out: Path) -> None:
    """Refuses a folder that holds files: what an earlier deployment left there would be applied too. Raises InvalidConfig."""
    if out.is_dir() and any(out.iterdir()):
        raise InvalidConfig(f"--out {out}: the folder holds files already; name a new or an empty one.")
    if out.exists() and not out.is_dir():
        raise InvalidConfig(f"--out {out}: this is a file; name a new folder.")


def deploy(platform: str, order: Order, out: Path) -> Deployment:
    """Writes the files of a deployment.

    Args:
        platform: One of PLATFORMS.
        order: What is deployed, and how.
        out: A new or empty folder.

    Raises:
        InvalidConfig: If the platform is unknown, the folder holds files, or the model can't be deployed as it is asked for.
        OSError: If a file can't be written.
    """
    files = files_of(platform)(order)
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with atomic_write(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    version = order.version
    return Deployment(platform, order.name, version.name, version.number, str(out), sorted(files))
