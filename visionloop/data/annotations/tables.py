"""The canonical annotations: what every format is read into. One table of images, and one of objects with a row for each.

Coordinates are whole hundredths of a pixel, COCO's own precision, from the top left corner of the picture as it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding

Split = Literal["train", "val", "test"]

#: The splits, in the order in which they are shown.
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: How many of a coordinate's units make a pixel.
HUNDREDTHS = 100

#: The largest coordinate, in hundredths of a pixel: what lies beyond it is held there, and is outside any image.
LIMIT = 10_000_000 * HUNDREDTHS

#: A visibility of a keypoint that is not 0 (not labelled), 1 (hidden) or 2 (visible).
WRONG_VISIBILITY = -1

#: Free fields of an image that say who labelled it, and when: never kept.
PEOPLE = frozenset({"labeled_by", "labeled_at", "reviewed_by", "reviewed_at"})

#: One row for each image.
IMAGES = pa.schema(
    [
        # The key below the dataset's URI, without a leading images/; its name in every format.
        pa.field("file_name", pa.string(), nullable=False),
        # The key below the dataset's URI.
        pa.field("key", pa.string(), nullable=False),
        # In pixels, of the picture as it is shown; null where neither the format nor the picture says it.
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        # As stated: train, val or test; null where nothing says it.
        pa.field("split", pa.string()),
        # The annotation file of the image, or of its objects alone (``label_files``), if it is not the one that stands for all.
        pa.field("file", pa.dictionary(pa.int32(), pa.string())),
        # Where in that file: the image's index there.
        pa.field("position", pa.int32(), nullable=False),
        # The value of the field that was asked for, as text; null without it.
        pa.field("group", pa.string()),
        # The image's free values as a JSON object with sorted keys; null without any. Never who labelled it, or when.
        pa.field("metadata", pa.string()),
    ]
)

#: One row for each object; for classification, one for each label of an image.
OBJECTS = pa.schema(
    [
        # The row of its image.
        pa.field("image", pa.int32(), nullable=False),
        # Where it stands: the index among its image's objects, or in its file where that lists all images' objects.
        pa.field("position", pa.int32(), nullable=False),
        # The id of its class, which may be one that does not exist.
        pa.field("class_id", pa.int32(), nullable=False),
        # Its box in hundredths of a pixel; all four are null without one.
        pa.field("x", pa.int32()),
        pa.field("y", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        # In square pixels, where it is stated and is not that of the box.
        pa.field("area", pa.float64()),
        # A region with many objects.
        pa.field("iscrowd", pa.bool_(), nullable=False),
        # Polygons, each x1, y1, x2, y2 … in hundredths of a pixel: their union is the object. Null without any.
        pa.field("polygons", pa.list_(pa.list_(pa.int32()))),
        # COCO's run-length mask as JSON ({"counts": …, "size": [height, width]}), where it did not become polygons.
        pa.field("mask", pa.string()),
        # x and y in hundredths of a pixel, and visibility, of each keypoint. Null without any.
        pa.field("keypoints", pa.list_(pa.int32())),
        # Free values in canonical JSON (RFC 8785); null without any.
        pa.field("attributes", pa.string()),
    ]
)

#: The four columns of a box.
BOX = ("x", "y", "width", "height")

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One of several datasets that are read as one: its name, and what sentences about it take from it.

    Attributes:
        name: Its name, with which the keys of its images begin.
        format: As that of ``Annotations``, and so are the others.
    """

    name: str
    format: str
    file: str
    below: str
    image_field: str
    object_field: str
    class_field: str
    label_files: bool


@dataclass(frozen=True)
class Annotations:
    """A dataset's annotations in canonical form.

    Attributes:
        format: The format that they came in, by name.
        task: One of the four tasks.
        file: The annotation file, or what stands for several, for sentences.
        classes: Its classes, with objects or without.
        images: As IMAGES; each file name occurs once.
        objects: As OBJECTS, ordered by image.
        below: The key below which all its images lie; empty for the dataset's URI itself.
        image_field: How an image is named in its file, with ``{image}`` for its position there: ``images[{image}]``.
        object_field: How an object is named, with ``{image}`` and ``{object}``: ``images[{image}].annotations[{object}]``.
        class_field: What an object calls the id of its class.
        label_files: Whether an image's own file holds its objects alone, so that of the image itself ``file`` speaks.
        shared: The file names of images of val that count in test as well, where the format gives them to both.
        findings: What the format states and this form does not hold: contradictions that only reading it shows.
        notices: What was assumed, passed over or counted while it was read, a sentence each.
        metadata: The dataset's free values: ``dataset_id``, ``dataset_name``.
        licences: Under which licences it may be used, where the format states any: ``formats.licences``.
        parts: The datasets that it is made of, where there are several. Then a key is one below the URI of a dataset, with that
            one's name and a slash before it.
    """

    format: str
    task: str
    file: str
    classes: tuple[Class, ...]
    images: pa.Table
    objects: pa.Table
    below: str = ""
    image_field: str = "images[{image}]"
    object_field: str = "annotations[{object}]"
    class_field: str = "class_id"
    label_files: bool = False
    shared: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    notices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

    def part(self, key: str) -> Annotations | Part:
        """What sentences about an image take from: its dataset's part, where there are several."""
        name = key.partition("/")[0]
        return next((part for part in self.parts if part.name == name), self)

    @property
    def name(self) -> str | None:
        """The dataset's name or id, where it states one."""
        return self.metadata.get("dataset_name") or self.metadata.get("dataset_id") or None

    def sorted(self) -> Annotations:
        """The same with its images in the order of their file names' UTF-8 bytes, and each one's objects by position."""
        images, objects = self.images, self.objects
        order = np.asarray(pc.sort_indices(images["file_name"]), dtype=np.int64)
        if (order[1:] < order[:-1]).any():
            rank = np.empty(len(order), np.int32)
            rank[order] = np.arange(len(order), dtype=np.int32)
            images = images.take(pa.array(order)).combine_chunks()
            objects = objects.set_column(0, OBJECTS.field(0), pa.array(rank[column(objects, "image")]))
        # As they lie in the table: whole numbers of 64 bits would be a copy of twice their size.
        image, position = (objects[name].to_numpy() for name in ("image", "position"))
        if ((image[1:] < image[:-1]) | ((image[1:] == image[:-1]) & (position[1:] < position[:-1]))).any():
            objects = objects.take(pa.array(np.lexsort((position, image)))).combine_chunks()
        return replace(self, images=images, objects=objects)

    def only(self, rows: Whole) -> Annotations:
        """The same with some of its images alone, and with their objects; ``rows`` are in ascending order."""
        image = column(self.objects, "image")
        new_row = np.full(len(self.images), -1, np.int32)
        new_row[rows] = np.arange(len(rows), dtype=np.int32)
        objects = self.objects.filter(pa.array(new_row[image] >= 0)).combine_chunks()
        objects = objects.set_column(0, OBJECTS.field(0), pa.array(new_row[column(objects, "image")]))
        return replace(self, images=self.images.take(pa.array(rows)).combine_chunks(), objects=objects)


def images_table(**columns: Any) -> pa.Table:
    """A table of images from its columns by name (arrays, or lists); those that are left out are null."""
    return _table(IMAGES, columns)


def objects_table(**columns: Any) -> pa.Table:
    """A table of objects from its columns by name (arrays, or lists); those that are left out are null, ``iscrowd`` false."""
    if "iscrowd" not in columns:
        columns["iscrowd"] = pa.repeat(False, len(columns["image"]))
    return _table(OBJECTS, columns)


def hundredths(pixels: Numbers) -> npt.NDArray[np.int32]:
    """Pixels as whole hundredths, rounded half to even; what lies beyond LIMIT, or is not a number, is held there."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(np.asarray(pixels, np.float64) * HUNDREDTHS)
    held: Numbers = np.clip(np.nan_to_num(scaled, nan=LIMIT, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)
    return held.astype(np.int32)


def column(table: pa.Table, name: str, missing: int = 0) -> Whole:
    """A whole-number column as an array; ``missing`` stands for null."""
    values = table[name]
    if values.null_count:
        values = pc.fill_null(values, pa.scalar(missing, values.type))
    return np.asarray(values.to_numpy(), dtype=np.int64)


def named(file_names: pa.ChunkedArray, wanted: Collection[str]) -> npt.NDArray[np.bool_]:
    """Whether each name is among those that are wanted."""
    return np.asarray(pc.is_in(file_names, pa.array(list(wanted), pa.string())))


def offsets(annotations: Annotations) -> Whole:
    """Where each image's objects begin, and behind the last one where they end: one more than there are images."""
    # As they lie in the table: whole numbers of 64 bits would be a copy of twice their size.
    image = annotations.objects["image"].to_numpy()
    return np.searchsorted(image, np.arange(len(annotations.images) + 1, dtype=np.int32)).astype(np.int64)


def in_parts(bounds: Whole, objects: int) -> Iterator[tuple[int, int]]:
    """Ranges of images, the last one exclusive, with about so many objects each: the columns of seven million take a gigabyte.

    Args:
        bounds: As ``offsets`` gives them.
        objects: How many; an image with more is a range of its own.
    """
    first = 0
    while first < len(bounds) - 1:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + objects, "right")) - 1)
        yield first, last
        first = last


def _table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    unknown = columns.keys() - set(schema.names)
    if unknown:
        raise ValueError(f"no column of the table: {', '.join(sorted(unknown))}")
    length = len(next(iter(columns.values())))
    arrays = []
    for entry in schema:
        values = columns.get(entry.name)
        if values is None:
            arrays.append(pa.nulls(length, entry.type))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values if values.type == entry.type else values.cast(entry.type))
        else:
            arrays.append(pa.array(values, entry.type))
    return pa.table(arrays, schema=schema)
