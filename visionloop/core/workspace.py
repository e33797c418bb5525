"""The workspace: where it may lie, and which of the guarantees that the layout relies on hold for its store."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from visionloop.core import structs
from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound, shortened
from visionloop.core.logs import LOGGER
from visionloop.core.runs import now
from visionloop.core.storage import Prefix
from visionloop.core.stores import Role, endpoint_of, local_path, normalise_uri

FILE = "workspace.json"
RACERS = 4


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """``workspace.json``: what the first use of this workspace measured of its store; older versions wrote more."""

    schema: int = 1
    created_at: str
    conditional_create: bool
    read_after_write: bool


def probe(workspace: Prefix) -> Probe:
    """Reads the facts about the workspace's store, or measures them at the first use: racing creates, then a read.

    Raises:
        AccessDenied: If the workspace can't be written.
        InvalidConfig: If its bucket does not exist.
        Transient: If the store does not answer.
    """
    try:
        return structs.decode(workspace.read(FILE), Probe)
    except msgspec.MsgspecError:
        workspace.delete([FILE])
    except NotFound:
        pass
    name = f".probe/{uuid.uuid4().hex}"
    data = b"visionloop"
    try:
        with ThreadPoolExecutor(RACERS) as pool:
            winners = sum(pool.map(lambda _: workspace.create(name, data), range(RACERS)))
        # No winner is one whose answer was lost: the write was sent again, and refused.
        measured = Probe(
            created_at=now(), conditional_create=winners <= 1, read_after_write=workspace.read(name) == data
        )
    except NotFound:
        raise InvalidConfig(
            f"{workspace.uri}: the workspace's bucket does not exist; create it or correct --workspace."
        ) from None
    workspace.delete([name])
    if not (measured.conditional_create and measured.read_after_write):
        LOGGER.warning(
            "%s: the store does not keep conditional writes; runs at the same time may do work twice.", workspace.uri
        )
    workspace.create(FILE, msgspec.json.format(msgspec.json.encode(measured), indent=2))
    return measured


def relation_of(uri: str, role: Role, other: str, other_role: Role) -> str | None:
    """How a folder or prefix lies to another one: "equal to", "inside" or "around" it; None where they are apart."""
    ours, theirs = _location(normalise_uri(uri), role), _location(normalise_uri(other), other_role)
    if ours == theirs:
        return "equal to"
    if ours[: len(theirs)] == theirs:
        return "inside"
    return "around" if theirs[: len(ours)] == ours else None


def check_apart(workspace: str, dataset: str) -> None:
    """Refuses a workspace that is the dataset's prefix or folder, lies in it or holds it: one would be written into the other.

    Args:
        workspace: The workspace's URI or path.
        dataset: The dataset's.

    Raises:
        InvalidConfig: If they are not apart.
    """
    relation = relation_of(workspace, "results", dataset, "dataset")
    if relation is None:
        return
    raise InvalidConfig(
        f"--workspace {workspace} is {relation} --dataset {dataset}: a dataset is only read; give a workspace beside it."
    )


def check_each_apart(datasets: Sequence[str]) -> None:
    """Refuses datasets of which one lies in another, or is it under another name: its images would count twice.

    Args:
        datasets: Their URIs, normalised.

    Raises:
        InvalidConfig: If they are not apart.
    """
    if len(datasets) < 2:
        return
    located = sorted((_location(uri, "dataset"), uri) for uri in datasets)
    for (outer, around), (inner, uri) in itertools.pairwise(located):
        if inner[: len(outer)] == outer:
            raise InvalidConfig(
                f"--dataset {uri} is {'equal to' if inner == outer else 'inside'} --dataset {around}, so its images would count "
                "twice; name one of them, or folders beside each other."
            )


def _location(uri: str, role: Role) -> tuple[str, ...]:
    """A URI as parts that can be compared: links followed, a bucket with the store that it is in."""
    folder = local_path(uri)
    if folder is not None:
        return ("file", *Path(os.path.realpath(folder)).parts)
    return (endpoint_of(role), *uri.removeprefix("s3://").split("/"))


#: The bytes of a folder's name and of a workspace's path: what file systems take, less the names below it.
_LONGEST_PART, _LONGEST = 255, 3_000


def check_can_be_made(workspace: str) -> None:
    """Refuses a workspace in a folder of this machine that can't be made or written; a bucket is not looked at.

    Raises:
        AccessDenied: If it can't be; the sentence names the part of the path at which it fails.
        InvalidConfig: If its name is longer than file systems take.
    """
    folder = local_path(normalise_uri(workspace))
    if folder is None:
        return
    if len(os.fsencode(folder)) > _LONGEST or max(len(os.fsencode(part)) for part in folder.parts) > _LONGEST_PART:
        raise InvalidConfig(
            f"--workspace {shortened(workspace, 80)}: its name is too long; give one of at most {_LONGEST_PART} bytes a folder and {_LONGEST:,} in all."
        )
    existing = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise AccessDenied(f"--workspace {workspace}: {existing} is not a folder; choose another workspace.")
    if (
        not os.access(existing, os.W_OK | os.X_OK)
        or existing.is_relative_to("/proc")
        or existing.is_relative_to("/sys")
    ):
        doing = "written" if existing == folder else "made"
        raise AccessDenied(
            f"--workspace {workspace} can't be {doing}: {existing} is not writable; let this user write there, or choose another one."
        )
