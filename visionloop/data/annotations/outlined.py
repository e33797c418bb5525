"""Run-length masks of single objects become polygons, whatever format they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core import structs
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import HUNDREDTHS, OBJECTS, Annotations
from visionloop.data.sentences import printable

#: How many masks are held as Python objects.
_AT_ONCE = 5_000

_POLYGONS, _MASK = OBJECTS.get_field_index("polygons"), OBJECTS.get_field_index("mask")


class _Mask(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


@dataclass
class _Counts:
    """How many masks became polygons, and how many of these have several parts, and holes."""

    masks: int = 0
    parts: int = 0
    holes: int = 0
    findings: list[Finding] = field(default_factory=list)


def with_outlines(read: Annotations, alive: Callable[[], None] = lambda: None) -> Annotations:
    """The annotations with polygons in place of the masks of single objects, for segmentation; those of crowds stay.

    A mask that is wrong, or not its image's, stays with a finding ``mask``, an error.

    Args:
        read: As their format's reader gives them.
        alive: Called now and then, as a sign of life.
    """
    if read.task != "segmentation":
        return read
    objects = read.objects
    rows = pc.indices_nonzero(pc.and_(objects["mask"].is_valid(), pc.invert(objects["iscrowd"])))
    if not len(rows):
        return read
    counts = _Counts()
    made: list[pa.Array] = []
    for start in range(0, len(rows), _AT_ONCE):
        made.append(pa.array(_polygons(read, rows[start : start + _AT_ONCE], counts), OBJECTS.field(_POLYGONS).type))
        alive()
    notices = [notice] if (notice := _notice(read.file, counts)) else []
    return replace(
        read,
        objects=_with(objects, rows, pa.concat_arrays(made)),
        findings=(*read.findings, *counts.findings),
        notices=(*read.notices, *notices),
    )


def boxes_alone(objects: pa.Table, task: str, file: str) -> list[str]:
    """The hint, once for all of them, that objects of a segmentation have a box and no outline; for files that serve detection too."""
    if task != "segmentation":
        return []
    outlined = pc.or_(objects["polygons"].is_valid(), objects["mask"].is_valid())
    alone = pc.and_(objects["x"].is_valid(), pc.invert(pc.or_(outlined, objects["iscrowd"])))
    number = pc.sum(alone, min_count=0).as_py() or 0
    if not number:
        return []
    words = "is a box" if number == 1 else "are boxes"
    return [
        f"{file}: {number:,} of {len(objects):,} objects {words} without an outline, an error each in segmentation; outline them, "
        "or choose --task detection."
    ]


def _polygons(read: Annotations, rows: pa.Array, counts: _Counts) -> Iterator[list[list[int]] | None]:
    """The polygons of the objects in some rows in hundredths of a pixel; None where the mask is wrong."""
    # What draws outlines is slow to load.
    from visionloop.data.annotations.masks import outlines

    # A reader may have looked at its own masks already.
    judged = {(entry.file_name, entry.field.removesuffix(".segmentation")) for entry in read.findings}
    objects = read.objects.select(["image", "position", "mask"]).take(rows)
    images = read.images.select(["file_name", "width", "height", "file", "position"]).take(objects["image"])
    for label, image in zip(objects.to_pylist(), images.to_pylist(), strict=True):
        try:
            outline = outlines(*_mask(label["mask"], image))
            if not outline.polygons:
                raise ValueError("it holds no pixel")
        except ValueError as error:
            name = image["file_name"]
            where = read.object_field.format(image=image["position"], object=label["position"])
            if (name, where) not in judged:
                text = f"{image['file'] or read.file}: {name}: {where} is not a mask of this image: {error}"
                counts.findings.append(
                    Finding("error", "mask", name, where, printable(f"{text}; draw the object again."))
                )
            yield None
            continue
        counts.masks += 1
        counts.parts += len(outline.polygons) > 1
        counts.holes += outline.holes > 0
        yield [[number * HUNDREDTHS for number in polygon] for polygon in outline.polygons]


def _mask(text: str, image: dict[str, Any]) -> tuple[str | list[int], int, int]:
    """Runs, height and width of a mask. Raises ValueError if it is not of the image's size."""
    mask = structs.decode(text, _Mask)
    height, width = mask.size
    if image["width"] and image["height"] and (width, height) != (image["width"], image["height"]):
        raise ValueError(f"its size is {width} × {height}, not the image's {image['width']} × {image['height']}")
    return mask.counts, height, width


def _with(objects: pa.Table, rows: pa.Array, made: pa.Array) -> pa.Table:
    """The objects with polygons in some rows in place of their masks; where there are none the mask stays."""
    at = np.full(len(objects), -1, np.int64)
    at[np.asarray(rows)] = np.arange(len(rows))
    outlined = made.take(pa.array(at, mask=at < 0))
    polygons = pc.coalesce(outlined, _whole(objects["polygons"]))
    masks = pc.if_else(outlined.is_valid(), pa.scalar(None, pa.string()), _whole(objects["mask"]))
    objects = objects.set_column(_POLYGONS, OBJECTS.field(_POLYGONS), polygons)
    return objects.set_column(_MASK, OBJECTS.field(_MASK), masks)


def _whole(values: pa.ChunkedArray) -> pa.Array:
    whole = values.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _notice(file: str, counts: _Counts) -> str | None:
    if not counts.masks:
        return None
    text = f"{file}: {counts.masks:,} run-length masks became polygons along the edges of their pixels"
    if counts.parts or counts.holes:
        text += (
            f"; {counts.parts:,} have several parts and {counts.holes:,} have holes, which one line of YOLO joins by cuts of "
            "no width"
        )
    return f"{text}."
