"""The manifest of a snapshot: one row for each image, in Parquet; and the snapshot as it is read."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionloop.core import structs
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.data.annotations import parquet
from visionloop.data.annotations.class_mapping import ClassMapping
from visionloop.data.annotations.merged import datasets_of
from visionloop.data.annotations.selection import Selection
from visionloop.data.annotations.split_rules import SharedSplit, shared_split
from visionloop.data.annotations.tables import IMAGES, Annotations, column, images_table
from visionloop.data.datasets import alone, listed, recorded
from visionloop.data.dice.tasks import annotation_file
from visionloop.data.images import ImageRow
from visionloop.data.locations import Location, open_images

SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        # As the store declares them; null where the image is missing. In a folder the ETag is the SHA-256 of its bytes.
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("version_id", pa.string()),
        # The split that it was given, and another one that it counts for as well.
        pa.field("split", pa.string(), nullable=False),
        pa.field("also", pa.string()),
        # What the annotations say of it: see ``data.annotations.tables.IMAGES``.
        pa.field("stated_split", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("file", pa.string()),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("metadata", pa.string()),
        # The SHA-256 of all of it that counts, its objects included (``data.annotations.content``).
        pa.field("content", pa.binary(32), nullable=False),
    ]
)

#: Of several datasets: the name of the one in which the image lies, below which its key is.
DATASET = pa.field("dataset", pa.string(), nullable=False)

#: Where a weight repeats images: how often each one is trained on.
REPEATS = pa.field("repeats", pa.int32(), nullable=False)

#: The columns of the first form, in which a manifest had no others.
_ROW = ("file_name", "key", "size", "etag", "version_id", "split", "width", "height")


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What identifies a snapshot: ``snapshot.json``, its only result. ``split`` holds the rule and the hash of the assignment.

    ``repeats`` is the hash of which images are trained on more than once; None where none is.
    """

    dataset_hash: str
    task: str
    split: dict[str, object]
    repeats: str | None = None

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))

    @property
    def id(self) -> str:
        """``snap_`` and 12 hex digits over content and split."""
        return f"snap_{sha256(self.encode())[:12]}"

    @property
    def shared(self) -> SharedSplit | None:
        """The rule that gives one split's images to another as well, where there is one."""
        return shared_split(self.split.get("rule"))


def encode(
    read: Annotations,
    objects: pa.Table,
    splits: pa.Table,
    content: pa.Array,
    repeats: npt.NDArray[np.int32] | None = None,
) -> bytes:
    """The manifest's Parquet bytes.

    Args:
        read: The annotations.
        objects: ``size``, ``etag`` and ``version`` of each image.
        splits: ``split`` and ``also`` of each.
        content: The digest of each.
        repeats: How often each is trained on; None where that is once.
    """
    images = read.images
    columns = {name: images[name] for name in ("file_name", "key", "width", "height", "position", "metadata")}
    columns |= {"size": objects["size"], "etag": objects["etag"], "version_id": objects["version"]}
    columns |= {"split": splits["split"], "also": splits["also"], "stated_split": images["split"], "content": content}
    columns |= {"file": images["file"].cast(pa.string())}
    schema = SCHEMA
    if read.parts:
        schema = schema.append(DATASET)
        columns |= {
            DATASET.name: datasets_of(images["key"]),
            "key": pc.replace_substring_regex(images["key"], "^[^/]*/", ""),
        }
    if repeats is not None:
        schema = schema.append(REPEATS)
        columns[REPEATS.name] = pa.array(repeats)
    return parquet.encode_table(pa.table([columns[name] for name in schema.names], schema=schema))


class Snapshot:
    """A snapshot as read from its receipt: its identity, where its images are, its manifest and annotations.

    ``dataset`` is a text for people: the URI of its dataset, or of several the first ones. Images are read by ``open_images``.
    """

    def __init__(self, result: Result) -> None:
        """``result`` is a snapshot's receipt."""
        self.result = result
        try:
            self.identity = structs.decode(result.read("snapshot"), Identity)
        except msgspec.MsgspecError as error:
            raise InvalidReceipt(
                f"{result.uri}: snapshot.json is not one ({error}); take the snapshot again."
            ) from error
        self.datasets = recorded(result.receipt.parameters["dataset"].value)
        self.dataset = listed([dataset.uri for dataset in self.datasets])

    @property
    def id(self) -> str:
        """``snap_…``."""
        return self.identity.id

    @property
    def selection(self) -> Selection:
        """What of the dataset was taken."""
        where, classes = (self.result.receipt.parameters.get(name) for name in ("where", "classes"))
        return Selection(
            where=None if where is None else str(where.value),
            classes=None if classes is None else structs.convert(classes.value, ClassMapping),
        )

    @property
    def licences(self) -> list[str]:
        """The licences that its dataset states; none in a snapshot that was taken before they were kept."""
        stated = self.result.receipt.parameters.get("licences")
        return [str(licence) for licence in stated.value] if stated else []

    @property
    def formats(self) -> str | dict[str, str]:
        """The format that its dataset was read as, or of several datasets each one's by its name."""
        return "dice" if self._first_form else parquet.formats(self.result.read("annotations"))

    @property
    def several(self) -> bool:
        """Whether it was taken of several datasets, or of one that is weighed."""
        return not alone(self.datasets)

    @property
    def title(self) -> str:
        """What the dataset calls itself, or is called, for the head of a page."""
        annotations = self.annotations
        if self.several:
            return listed([dataset.name for dataset in self.datasets])
        return annotations.name or self.datasets[0].name

    def dataset_counts(self) -> list[dict[str, Any]]:
        """Of several datasets each one's URI, name and weight, and how many images it has; empty for one alone.

        ``repeated`` is how many more times images of it are trained on, ``left_out`` how many its weight leaves out.
        """
        counts = self.result.receipt.scalars.get("datasets") or {}
        if not self.several:
            return []
        return [{**dataset.canonical(), **counts.get(dataset.name, {})} for dataset in self.datasets]

    def open_images(self) -> Location:
        """Where its images lie: what the keys of ``table`` and ``rows`` are read from."""
        return open_images(self.datasets)

    @property
    def task(self) -> str:
        """The task that was frozen."""
        return self.identity.task

    @cached_property
    def table(self) -> pa.Table:
        """The manifest, ordered by file name; one of the first form lacks the columns behind ``height``.

        A key of several datasets has its dataset's name before it, by which ``open_images`` finds it.
        """
        table = pq.read_table(io.BytesIO(self.result.read("manifest"))).combine_chunks()
        if DATASET.name in table.schema.names:
            keys = pc.binary_join_element_wise(table[DATASET.name], table["key"], "/")
            return table.set_column(table.schema.get_field_index("key"), SCHEMA.field("key"), keys)
        if "also" in table.schema.names:
            return table
        rule, also = self.identity.shared, pa.nulls(len(table), pa.string())
        if rule is not None:
            also = pc.if_else(pc.equal(table["split"], rule.source), pa.scalar(rule.split), also)
        return table.select(_ROW).append_column("also", also)

    @cached_property
    def rows(self) -> list[ImageRow]:
        """The manifest's rows."""
        return self.rows_of(self.table)

    def rows_of(self, table: pa.Table) -> list[ImageRow]:
        """Some of the manifest's rows, from the table that holds them."""
        return [ImageRow(**row) for row in table.select((*_ROW, "also")).to_pylist()]

    @property
    def repeats(self) -> npt.NDArray[np.int64]:
        """How often each image is trained on, by row."""
        if REPEATS.name in self.table.schema.names:
            return column(self.table, REPEATS.name)
        return np.ones(len(self.table), np.int64)

    def in_split(self, split: str) -> npt.NDArray[np.bool_]:
        """Whether each image counts for a split, by row."""
        belongs = pc.or_kleene(pc.equal(self.table["split"], split), pc.equal(self.table["also"], split))
        return np.asarray(pc.fill_null(belongs, False))

    @property
    def test_was_seen(self) -> bool:
        """Whether val and test share images, so that test was seen when the best epoch was chosen."""
        return bool(self.table["also"].null_count < len(self.table))

    @cached_property
    def annotations(self) -> Annotations:
        """The annotations that were frozen, their images in the manifest's order."""
        return self.read_annotations()

    def read_annotations(self) -> Annotations:
        """The same, read again: for a caller that lets them go before it reads others."""
        data = self.result.read("annotations")
        if self._first_form:
            from visionloop.data.formats.dice.reader import read_file

            first_form = read_file(data, annotation_file(self.task), self.task)
            return self._named(first_form.sorted())
        columns = {name: self.table[name] for name in IMAGES.names if name in self.table.schema.names}
        columns |= {"split": self.table["stated_split"], "file": self.table["file"].dictionary_encode()}
        return self._named(parquet.decode(data, images_table(**columns)))

    @property
    def _first_form(self) -> bool:
        """Whether it is of the first form, whose annotations are the DICE file itself."""
        return "content" not in self.table.schema.names

    def _named(self, read: Annotations) -> Annotations:
        """Sentences name what was frozen, not what lies there now."""
        return replace(read, file=f"{self.id}/{read.file}")
