"""The snapshots that a workspace holds: one by its id, and all of them. Everything that names a snapshot finds it here."""

from __future__ import annotations

import re
from collections.abc import Callable

from visionloop.components.snapshot import index
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix

#: How many of the ids that exist a sentence names.
NAMED = 10

#: The scalar of a snapshot's receipt that holds its id.
ID = "snapshot_id"

_ID = re.compile(r"snap_[0-9a-f]{12}")


def snapshot_of(workspace: Prefix, wanted: str, accept: Callable[[Snapshot], None] = lambda snapshot: None) -> Snapshot:
    """A snapshot, from the newest of its receipts that can be read and is accepted.

    Args:
        workspace: The workspace.
        wanted: The id.
        accept: Raises InvalidDataset for one that will not do; the next older one is tried.

    Raises:
        InvalidConfig: If the workspace has no such snapshot; the sentence names some that it has.
        InvalidDataset: If none of its receipts can be read, or none is accepted: the newest one's error.
    """
    refused: InvalidDataset | None = None
    for uri in uris_of(workspace, wanted):
        try:
            snapshot = Snapshot(receipts.nearest(uri, "snapshot", workspace))
            if snapshot.id != wanted:
                raise InvalidReceipt(f"{uri}: the snapshot {snapshot.id}, not {wanted}; take a new snapshot.")
            accept(snapshot)
            return snapshot
        except InvalidDataset as error:
            refused = refused or error
    raise refused or unknown(workspace, wanted)


def uris_of(workspace: Prefix, wanted: str) -> list[str]:
    """The URIs of a snapshot's receipts, newest first; none of an id that does not exist.

    An index may name receipts that are gone: a deletion that was cut off leaves them in it.
    """
    ours = f"{workspace.uri}/"
    existing = [
        uri
        for uri in indexed(workspace, wanted)
        if not uri.startswith(ours) or workspace.exists(uri.removeprefix(ours))
    ]
    # The receipts decide: an index that lost one only costs a look at all of them.
    return existing or [result.uri for result in every(workspace) if result.receipt.scalars.get(ID) == wanted]


def indexed(workspace: Prefix, wanted: str) -> list[str]:
    """The URIs that the index names, whether their receipts are there or not, newest first."""
    return index.read(workspace, wanted) if _ID.fullmatch(wanted) else []


def unknown(workspace: Prefix, wanted: str) -> InvalidConfig:
    """The error for an id that the workspace does not hold."""
    ids = sorted({str(result.receipt.scalars.get(ID)) for result in every(workspace)})
    names = f"it has {', '.join(ids[:NAMED])}" if ids else "it has none"
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return InvalidConfig(f"{workspace.uri} holds no snapshot {wanted!r}; {names}{more}.")


def every(workspace: Prefix) -> list[Result]:
    """The receipts of all snapshots; one that can't be read is not a result, and left out. Outputs are not checked."""
    keys = workspace.children("snapshot")[0]
    looked = workspace.map(lambda key: receipts.look(workspace, "snapshot", key), keys)
    return [result for result in looked if result is not None]
