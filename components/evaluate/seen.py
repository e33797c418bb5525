"""The images of a test split that the champion was trained on: a join of two manifests."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.errors import InvalidReceipt, VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix
from visionloop.registry import Registry, Version

#: How many models that went on from one another are followed.
GENERATIONS = 100


@dataclass(frozen=True)
class Lineage:
    """What a model has learned from.

    Attributes:
        snapshots: The receipts of the snapshots that it, and the models whose weights it started from, were trained on.
        gap: Why not all of it can be read; empty where it can.
    """

    snapshots: tuple[Result, ...] = ()
    gap: str = ""

    @property
    def digests(self) -> list[str]:
        """The snapshots' digests, for a key."""
        return sorted(snapshot.receipt.digest for snapshot in self.snapshots)


def lineage_of(champion: Version, registry: Registry, workspace: Prefix) -> Lineage:
    """Reads what a champion was trained on, and the models before it whose checkpoints it went on from."""
    snapshots: dict[str, Result] = {}
    versions = [champion]
    for _ in range(GENERATIONS):
        found, gap = _first_readable(versions, workspace)
        if found is None:
            return Lineage(tuple(snapshots.values()), gap)
        training, snapshot = found
        snapshots.setdefault(snapshot.receipt.digest, snapshot)
        start = training.receipt.parameters.get("model")
        sha256 = str(start.value).partition("sha256:")[2] if start is not None else ""
        before = registry.of_checkpoint(sha256) if sha256 else []
        versions = [each for each in before if each.training_digest != training.receipt.digest]
        if not versions:
            break
    return Lineage(tuple(snapshots.values()))


def _first_readable(versions: Sequence[Version], workspace: Prefix) -> tuple[tuple[Result, Result] | None, str]:
    """The training and the snapshot of the first of versions with one checkpoint whose lineage can be read, else why that of the last can't."""
    gap = ""
    for version in versions:
        try:
            return _trained_on(version, workspace), ""
        except VisionloopError as error:
            gap = error.sentence.rstrip(".")
    return None, gap


def _trained_on(version: Version, workspace: Prefix) -> tuple[Result, Result]:
    """The receipts of a version's training and of its snapshot."""
    uri = version.training_receipt
    if uri is None:
        raise InvalidReceipt(f"{version.uri}: Visionloop did not register it.")
    training = receipts.nearest(uri, "train", workspace, version.training_digest, outputs=False)
    reference = training.receipt.inputs["snapshot"]
    return training, receipts.nearest(reference.receipt or "", "snapshot", workspace, reference.digest)


def seen(theirs: Snapshot, ours: Snapshot, split: str) -> Set[str]:
    """The file names of a split's images that are train images of another snapshot.

    An image is the same where its file name, size and ETag are; in folders, whose ETags are SHA-256 of the bytes, also under
    another name.

    Args:
        theirs: The other snapshot.
        ours: The snapshot with the split.
        split: The split's name.
    """
    train = theirs.table.filter(pa.array(theirs.in_split("train")))
    own = ours.table.filter(pa.array(ours.in_split(split)))
    same = _rows(own, ("file_name", "size", "etag"), train) | _rows(own, ("etag",), train, hashed=True)
    return frozenset(own["file_name"].take(pa.array(sorted(same), pa.int64())).to_pylist())


def _rows(own: pa.Table, names: tuple[str, ...], train: pa.Table, *, hashed: bool = False) -> Set[int]:
    """The rows of ``own`` that have the values of a row of ``train`` in these columns; with ``hashed`` SHA-256 alone count."""
    tables = []
    for table in (own, train):
        numbered = table.select(list(dict.fromkeys((*names, "etag")))).append_column("row", pa.array(range(len(table))))
        wanted = pc.match_substring_regex(table["etag"], "^[0-9a-f]{64}$") if hashed else pc.is_valid(table["etag"])
        tables.append(numbered.filter(pc.fill_null(wanted, False)))
    first, second = tables
    joined = first.join(second, keys=list(names), join_type="left semi")
    return frozenset(joined["row"].to_pylist())
