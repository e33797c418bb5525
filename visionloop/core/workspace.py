"""Facts about the workspace: which of the guarantees that the layout relies on hold for its store."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import msgspec

from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.logs import LOGGER
from visionloop.core.runs import now
from visionloop.core.storage import Prefix

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
        return msgspec.json.decode(workspace.read(FILE), type=Probe)
    except msgspec.MsgspecError:
        workspace.delete([FILE])
    except NotFound:
        pass
    name = f".probe/{uuid.uuid4().hex}"
    data = b"visionloop"
    try:
        with ThreadPoolExecutor(RACERS) as pool:
            winners = sum(pool.map(lambda _: workspace.create(name, data), range(RACERS)))
        measured = Probe(
            created_at=now(), conditional_create=winners == 1, read_after_write=workspace.read(name) == data
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
