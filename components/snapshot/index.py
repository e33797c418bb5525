"""``{workspace}/snapshots/{snap_id}.json``: the receipts with one snapshot id, oldest first."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from visionloop.core import structs
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound, PreconditionFailed
from visionloop.core.storage import Prefix

FOLDER = "snapshots"


class SnapshotIndex(msgspec.Struct, kw_only=True):
    """The index object: the id and the receipts' URIs."""

    id: str
    receipts: list[str]


def refuse_beside_snapshot(option: str, value: str | None) -> None:
    """Raises InvalidConfig for an option that says what an earlier snapshot has already decided."""
    if value:
        raise InvalidConfig(
            f"--{option} and --snapshot are both given; a snapshot holds what it was read as, so leave --{option} out."
        )


def read(workspace: Prefix, snapshot_id: str) -> list[str]:
    """Returns the receipts with this id, newest first; none if the id is unknown."""
    try:
        index = structs.decode(workspace.read(f"{FOLDER}/{snapshot_id}.json"), SnapshotIndex)
    except NotFound:
        return []
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(
            f"{workspace.uri}/{FOLDER}/{snapshot_id}.json: not an index of receipts ({error}); take the snapshot again."
        ) from error
    return index.receipts[::-1]


def add(workspace: Prefix, snapshot_id: str, receipt: str) -> None:
    """Appends a receipt, even if others do so at the same time; one that is already listed moves to the end."""
    key = f"{FOLDER}/{snapshot_id}.json"
    while True:
        try:
            data, etag = workspace.read_with_etag(key)
        except NotFound:
            if workspace.create(key, _encode(snapshot_id, [receipt])):
                return
            continue
        try:
            existing = structs.decode(data, SnapshotIndex).receipts
        except msgspec.MsgspecError:
            existing = []
        try:
            workspace.replace(key, _encode(snapshot_id, [*(uri for uri in existing if uri != receipt), receipt]), etag)
        except PreconditionFailed:
            continue
        return


def remove(workspace: Prefix, snapshot_id: str, receipts: Collection[str]) -> None:
    """Takes receipts out, even if others add some at the same time; without any left the index goes."""
    key = f"{FOLDER}/{snapshot_id}.json"
    while True:
        try:
            data, etag = workspace.read_with_etag(key)
        except NotFound:
            return
        try:
            left = [uri for uri in msgspec.json.decode(data, type=SnapshotIndex).receipts if uri not in receipts]
        except msgspec.MsgspecError:
            left = []
        if not left:
            workspace.delete([key])
            return
        try:
            workspace.replace(key, _encode(snapshot_id, left), etag)
        except PreconditionFailed:
            continue
        return


def _encode(snapshot_id: str, receipts: list[str]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(SnapshotIndex(id=snapshot_id, receipts=receipts)), indent=2)
