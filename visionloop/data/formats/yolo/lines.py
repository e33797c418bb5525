"""The lines of YOLO's label files from canonical objects: a class number and fractions of the image's sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.masks import joined, united
from visionloop.data.annotations.tables import BOX, HUNDREDTHS, Numbers, Whole, column
from visionloop.data.formats.written import Chosen, Losses, boxed

#: The fewest values of a polygon: three points.
_POLYGON = 6


@dataclass(frozen=True)
class Rendering:
    """How the labels of a dataset are written: its task, the number of keypoints of each object, and digits of a fraction."""

    task: str
    keypoints: int
    digits: int


def digits_for(side: int) -> int:
    """How many digits of a fraction keep two decimals of a pixel up to a side in pixels; at least 6.

    A corner is a centre less half a side, so it is off by three quarters of a last digit; under half a hundredth it is rounded away.
    """
    digits = 6
    while 0.75 * 10**-digits * side >= 0.0045:
        digits += 1
    return digits


def lines(
    objects: pa.Table, rank: Whole, widths: Whole, heights: Whole, rendering: Rendering, losses: Losses
) -> tuple[Whole, pa.Array]:
    """The lines of objects: which of these each is of, and its text.

    Args:
        objects: As OBJECTS.
        rank: The class number of each.
        widths: The width of each one's image in pixels.
        heights: The same.
        rendering: How they are written.
        losses: Counts what a line can't say.
    """
    sides = np.stack([widths, heights], axis=1) * HUNDREDTHS
    if rendering.task == "segmentation":
        rows, values, counts = _outlines(objects, sides, losses)
    else:
        rows, values = _boxes(objects, sides, losses)
        counts = np.full(len(rows), 4)
        if rendering.task == "pose":
            rows, values, counts = _poses(objects, rows, values, sides, rendering.keypoints, losses)
    text = _texts(np.round(values, rendering.digits))
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    fractions = pc.binary_join(pa.ListArray.from_arrays(ends, text), " ")
    return rows, pc.binary_join_element_wise(pa.array(rank[rows]).cast(pa.string()), fractions, " ")


def _texts(values: Numbers) -> pa.Array:
    """Numbers as the shortest texts that mean them; whole ones without a point."""
    texts = pa.array(values).cast(pa.string())
    return pc.replace_substring_regex(texts, r"\.0$", "")


def _boxes(objects: pa.Table, sides: Whole, losses: Losses) -> tuple[Whole, Numbers]:
    """The rows of objects with a box in their image, and centre and sides of each as fractions."""
    rows = np.flatnonzero(boxed(objects))
    losses.add(len(objects) - len(rows), "object has", "objects have", "no box: left out")
    x, y, width, height = (column(objects, name)[rows] for name in BOX)
    negative = (width < 0) | (height < 0)
    losses.add(int(negative.sum()), "box has", "boxes have", "a negative side: left out")
    corners = np.stack([x, y, x + width, y + height], axis=1)
    limits = np.tile(sides[rows], 2)
    held = np.clip(corners, 0, limits)
    changed = (held != corners).any(axis=1) & ~negative
    gone = changed & ((held[:, 2] <= held[:, 0]) | (held[:, 3] <= held[:, 1]))
    losses.add(int(gone.sum()), "box lies", "boxes lie", "outside the image: left out")
    losses.add(int((changed & ~gone).sum()), "box reaches", "boxes reach", "outside the image: cut off there")
    kept = ~negative & ~gone
    left, top, right, bottom = held[kept].T
    centre = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)
    return rows[kept], (centre / limits[kept]).reshape(-1)


def _poses(
    objects: pa.Table, rows: Whole, boxes: Numbers, sides: Whole, number: int, losses: Losses
) -> tuple[Whole, Numbers, Whole]:
    """The rows of objects with as many keypoints as the dataset has, and box and keypoints of each."""
    lists = objects["keypoints"].take(pa.array(rows)).to_pylist()
    fits = np.array([not values or len(values) == 3 * number for values in lists], np.bool_)
    losses.add(int((~fits).sum()), "object has", "objects have", f"not the {number} keypoints of the others: left out")
    empty = [0] * (3 * number)
    points = np.array([values or empty for values, fit in zip(lists, fits, strict=True) if fit], np.int64)
    points = points.reshape(-1, number, 3)
    limits = sides[rows[fits]][:, None]
    seen = points[:, :, 2]
    held = np.clip(points[:, :, :2], 0, limits)
    outside = (np.abs(held - points[:, :, :2]) > HUNDREDTHS).any(axis=2)
    lost = (outside & (seen > 0)) | ~np.isin(seen, (0, 1, 2))
    losses.add(
        int(lost.sum()),
        "keypoint lies",
        "keypoints lie",
        "outside the image or has no visibility of 0, 1 or 2: not labelled",
    )
    values = np.concatenate([held / limits, seen[:, :, None]], axis=2)
    values[lost | outside] = 0
    whole = np.concatenate([boxes.reshape(-1, 4)[fits], values.reshape(len(values), -1)], axis=1)
    return rows[fits], whole.reshape(-1), np.full(int(fits.sum()), 4 + 3 * number)


def _outlines(objects: pa.Table, sides: Whole, losses: Losses) -> tuple[Whole, Numbers, Whole]:
    """The rows of objects with a polygon in their image, and each one's outline: its polygons joined by cuts of no width."""
    rows: list[int] = []
    outlines: list[Numbers] = []
    without = several = overlapping = cut = 0
    for row, (polygons, limit) in enumerate(zip(objects["polygons"].to_pylist(), sides, strict=True)):
        usable = [polygon for polygon in polygons or () if len(polygon) >= _POLYGON and not len(polygon) % 2]
        if not usable:
            without += 1
            continue
        parts, merged = united([np.array(polygon, np.int64).reshape(-1, 2) for polygon in usable])
        several += len(parts) > 1
        overlapping += merged
        outline = joined(parts)
        held = np.clip(outline, 0, limit)
        cut += bool((held != outline).any())
        rows.append(row)
        outlines.append((held / limit).reshape(-1))
    losses.add(without, "object has", "objects have", "no polygon: left out")
    losses.add(several, "object has", "objects have", "several parts, which one line joins by cuts of no width")
    losses.add(
        overlapping, "object has", "objects have", "polygons that overlap: the line is the outline of their union"
    )
    losses.add(cut, "outline reaches", "outlines reach", "outside the image: cut off there")
    counts = np.array([len(outline) for outline in outlines], np.int64)
    values: npt.NDArray[Any] = np.concatenate(outlines) if outlines else np.zeros(0)
    return np.array(rows, np.int64), values, counts


def by_image(image: Whole, texts: pa.Array, count: int) -> list[bytes | None]:
    """The label file of each of ``count`` images from the lines and the image of each; None where there is no line."""
    bounds = np.searchsorted(image, np.arange(count + 1)).astype(np.int32)
    files = pc.binary_join(pa.ListArray.from_arrays(pa.array(bounds), texts), "\n").to_pylist()
    return [f"{text}\n".encode() if text else None for text in files]


def kept_rows(*conditions: Chosen) -> Whole:
    """The rows in which all conditions hold."""
    return np.flatnonzero(np.logical_and.reduce(conditions))
