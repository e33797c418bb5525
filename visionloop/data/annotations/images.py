"""The canonical annotations image by image, in pixels, for work that looks at each object by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from visionloop.data.annotations.tables import BOX, HUNDREDTHS, Annotations, Whole, offsets

#: How many images are held as Python objects at once.
_AT_ONCE = 2_000

Box = tuple[float, float, float, float]


class Annotation(Struct, frozen=True, gc=False, kw_only=True):
    """One object, or for classification one label of an image.

    Attributes:
        position: Its index in its image's list, or in its file, for sentences.
        class_id: The id of its class, which may be one that does not exist.
        bbox: x, y, width, height in pixels from the top left corner.
        iscrowd: Whether it is a region with many objects.
        polygons: Each x1, y1, x2, y2 … in pixels; their union is the object.
        mask: A run-length mask that did not become polygons, as JSON.
        keypoints: x, y in pixels and visibility of each keypoint, flat.
    """

    position: int
    class_id: int
    bbox: Box | None = None
    iscrowd: bool = False
    polygons: Sequence[Sequence[float]] = ()
    mask: str | None = None
    keypoints: Sequence[float] = ()


class Image(Struct, frozen=True, gc=False, kw_only=True):
    """One image: ``row`` is its row in the table, ``position`` its index in its file; width and height are None where unknown."""

    row: int
    position: int
    file_name: str
    key: str
    width: int | None
    height: int | None
    annotations: tuple[Annotation, ...] = ()
    file: str | None = None


def images(read: Annotations, rows: npt.ArrayLike | None = None) -> Iterator[Image]:
    """The images in the order of the table, a few thousand of them in memory at a time.

    Args:
        read: The annotations, their objects ordered by image.
        rows: The rows that are wanted, in any order; None for all.
    """
    bounds = offsets(read)
    wanted = np.arange(len(read.images)) if rows is None else np.asarray(rows, np.int64)
    for first in range(0, len(wanted), _AT_ONCE):
        chosen = wanted[first : first + _AT_ONCE]
        at, counts = objects_of(bounds, chosen)
        annotations = _annotations(read.objects.take(pa.array(at)))
        limits = np.concatenate([[0], np.cumsum(counts)]).tolist()
        table = read.images.take(pa.array(chosen))
        names = ("position", "file_name", "key", "width", "height", "file")
        columns = [table[name].to_pylist() for name in names]
        for index, (row, values) in enumerate(zip(chosen.tolist(), zip(*columns, strict=True), strict=True)):
            position, file_name, key, width, height, file = values
            yield Image(
                row=row,
                position=position,
                file_name=file_name,
                key=key,
                width=width,
                height=height,
                annotations=tuple(annotations[limits[index] : limits[index + 1]]),
                file=file,
            )


def objects_of(bounds: Whole, rows: npt.ArrayLike) -> tuple[Whole, Whole]:
    """The rows of the objects of some images, image by image, and how many each has; ``bounds`` are the tables' ``offsets``."""
    chosen = np.asarray(rows, np.int64)
    starts, counts = bounds[chosen], bounds[chosen + 1] - bounds[chosen]
    shift = starts - np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    return np.repeat(shift, counts) + np.arange(counts.sum()), counts


def _annotations(objects: pa.Table) -> list[Annotation]:
    box = np.stack([objects[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in BOX], axis=1)
    boxes = [None if values[0] != values[0] else tuple(values) for values in (box / HUNDREDTHS).tolist()]
    columns: dict[str, Sequence[Any]] = {
        name: objects[name].to_pylist() for name in ("position", "class_id", "iscrowd")
    }
    columns["bbox"] = boxes
    if objects["polygons"].null_count < len(objects):
        columns["polygons"] = [
            tuple(tuple(value / HUNDREDTHS for value in polygon) for polygon in polygons or ())
            for polygons in objects["polygons"].to_pylist()
        ]
    if objects["mask"].null_count < len(objects):
        columns["mask"] = objects["mask"].to_pylist()
    if objects["keypoints"].null_count < len(objects):
        columns["keypoints"] = [_keypoints(values) for values in objects["keypoints"].to_pylist()]
    names = tuple(columns)
    return [Annotation(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _keypoints(values: list[int] | None) -> tuple[float, ...]:
    """x and y in pixels, and visibility as it is."""
    return tuple(float(value) if index % 3 == 2 else value / HUNDREDTHS for index, value in enumerate(values or ()))
