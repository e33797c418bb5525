"""Predictions in Parquet: a row for each object or class that was found, and one for an image in which nothing was."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionloop.components.predict.predicting import Predicted

_NUMBERS = pa.list_(pa.list_(pa.float64()))

#: The columns. Coordinates are pixels of the picture as it is shown.
SCHEMA = pa.schema(
    [
        # Below the prefix of the images.
        pa.field("file_name", pa.string(), nullable=False),
        # In pixels.
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        # All from here on are null where nothing was found.
        pa.field("class", pa.string()),
        pa.field("class_index", pa.int32()),
        pa.field("confidence", pa.float64()),
        # The box; null for a class of a whole image.
        pa.field("x1", pa.float64()),
        pa.field("y1", pa.float64()),
        pa.field("x2", pa.float64()),
        pa.field("y2", pa.float64()),
        # The outlines of an object's parts, and of the holes in them, each x1, y1, x2, y2 …; null without a mask.
        pa.field("polygons", _NUMBERS),
        pa.field("holes", _NUMBERS),
        # By the keypoint's name; null without any.
        pa.field(
            "keypoints",
            pa.list_(
                pa.struct(
                    [("name", pa.string()), ("x", pa.float64()), ("y", pa.float64()), ("confidence", pa.float64())]
                )
            ),
        ),
    ]
)

#: How many images are put into a row group.
AT_ONCE = 1_000

_BOX = ("x1", "y1", "x2", "y2")


@dataclass
class Counts:
    """How much was predicted.

    Attributes:
        images: Images.
        objects: Objects, or images of which the classes were given.
    """

    images: int = 0
    objects: int = 0


@dataclass(frozen=True)
class Found:
    """What a table has of one image.

    Attributes:
        file_name: Its name.
        width: In pixels.
        height: The same.
        predictions: As ``visionloop.registry.outputs`` has them.
    """

    file_name: str
    width: int
    height: int
    predictions: list[dict[str, Any]]


def write(path: Path, predicted: Iterable[Predicted]) -> Counts:
    """Writes a table, and counts what is in it; only ``AT_ONCE`` images are held."""
    counts, left = Counts(), iter(predicted)
    with pq.ParquetWriter(
        path, SCHEMA, compression="zstd", version="2.6", use_dictionary=["file_name", "class"]
    ) as writer:
        while some := list(itertools.islice(left, AT_ONCE)):
            writer.write_table(pa.Table.from_pylist([row for one in some for row in _rows(one)], SCHEMA))
            counts.images += len(some)
            counts.objects += sum(_objects(one.predictions) for one in some)
    return counts


def read(path: Path, only: Sequence[str] | None = None) -> Iterator[Found]:
    """Yields the images of a table in their order, a row group at a time; with ``only`` those of these names."""
    with pq.ParquetFile(path) as file:
        groups = (_rows_of(file.read_row_group(number), only) for number in range(file.num_row_groups))
        rows = itertools.chain.from_iterable(groups)
        for (name, width, height), own in itertools.groupby(
            rows, lambda row: (row["file_name"], row["width"], row["height"])
        ):
            yield Found(name, width, height, [_entry(row) for row in own if row["class"] is not None])


def _rows_of(group: pa.Table, only: Sequence[str] | None) -> list[dict[str, Any]]:
    if only is not None:
        group = group.filter(pc.is_in(group["file_name"], pa.array(only, pa.string())))
    return group.to_pylist()  # type: ignore[no-any-return]


def _objects(predictions: Sequence[Mapping[str, Any]]) -> int:
    """How many objects these are: the classes of a whole image count as one."""
    return len(predictions) if predictions and "box" in predictions[0] else min(1, len(predictions))


def _rows(one: Predicted) -> list[dict[str, Any]]:
    image = {"file_name": one.picture.key, "width": one.width, "height": one.height}
    return [{**image, **_row(entry)} for entry in one.predictions] or [image]


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: entry[name] for name in ("class", "class_index", "confidence")}
    if box := entry.get("box"):
        row |= dict(zip(_BOX, box, strict=True))
    row |= {name: entry[name] for name in ("polygons", "holes") if name in entry}
    if points := entry.get("keypoints"):
        row["keypoints"] = [
            {"name": name, "x": x, "y": y, "confidence": confidence} for name, (x, y, confidence) in points.items()
        ]
    return row


def _entry(row: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: row[name] for name in ("class", "class_index", "confidence")}
    if row["x1"] is not None:
        entry["box"] = [row[name] for name in _BOX]
    entry |= {name: row[name] for name in ("polygons", "holes") if row[name] is not None}
    if row["keypoints"] is not None:
        entry["keypoints"] = {
            point["name"]: [point["x"], point["y"], point["confidence"]] for point in row["keypoints"]
        }
    return entry
