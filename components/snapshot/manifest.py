"""The manifest of a snapshot: one row for each image, in Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.data import dice
from visionloop.data.images import ImageRow

SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("version_id", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a snapshot: ``snapshot.json``, its only result. ``split`` holds the rule and the hash of the assignment."""

    dataset_hash: str
    task: str
    split: dict[str, object]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))

    def splits_of(self, row: ImageRow) -> tuple[str, ...]:
        """The splits that an image counts for: its own, and with the rule ``test=val`` an image of val for test as well."""
        shared = dice.shared_split(self.split.get("rule"))
        return (row.split, shared.split) if shared and row.split == shared.source else (row.split,)

    @property
    def test_is_val(self) -> bool:
        """Whether val and test share images by the rule, so that test was seen when the best epoch was chosen."""
        return dice.shared_split(self.split.get("rule")) is not None

    @property
    def id(self) -> str:
        """``snap_`` and 12 hex digits over content and split."""
        return f"snap_{sha256(self.encode())[:12]}"


def encode(rows: Iterable[ImageRow]) -> bytes:
    """The manifest's Parquet bytes."""
    listed = list(rows)
    table = pa.table({name: [getattr(row, name) for row in listed] for name in SCHEMA.names}, schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def decode(data: bytes) -> list[ImageRow]:
    """Reads a manifest."""
    table = pq.read_table(io.BytesIO(data))
    return [ImageRow(**row) for row in table.select(SCHEMA.names).to_pylist()]


class Snapshot:
    """A snapshot as read from its receipt: its identity, where its images are, its manifest and annotations."""

    def __init__(self, result: Result) -> None:
        """``result`` is a snapshot's receipt."""
        self.result = result
        try:
            self.identity = msgspec.json.decode(result.read("snapshot"), type=Identity)
        except msgspec.MsgspecError as error:
            raise InvalidReceipt(
                f"{result.uri}: snapshot.json is not one ({error}); take the snapshot again."
            ) from error
        self.dataset = str(result.receipt.parameters["dataset"].value)
        self._rows: list[ImageRow] | None = None
        self._annotations: dice.Dataset | None = None

    @property
    def id(self) -> str:
        """``snap_…``."""
        return self.identity.id

    @property
    def task(self) -> str:
        """The task that was frozen."""
        return self.identity.task

    @property
    def rows(self) -> list[ImageRow]:
        """The manifest, ordered by file name."""
        if self._rows is None:
            self._rows = decode(self.result.read("manifest"))
        return self._rows

    @property
    def annotations(self) -> dice.Dataset:
        """The annotations that were frozen."""
        if self._annotations is None:
            file = f"{self.id}/{dice.annotation_file(self.task)}"
            self._annotations = dice.decode(self.result.read("annotations"), file, self.task)
        return self._annotations
