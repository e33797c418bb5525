"""Label files of YOLO: a line for each object, its class and then fractions of the image's width and height."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import BOX, WRONG_VISIBILITY, Numbers, Whole, hundredths, objects_table
from visionloop.data.sentences import shown

#: The numbers of a box's line: class, centre x, centre y, width, height.
BOX_VALUES = 5

#: The fewest numbers of a polygon's line: class, and x and y of three points.
_POLYGON_VALUES = 7

_REMEDY = "correct the line, or export the labels again"


@dataclass
class Lines:
    """The lines of some label files: of each its image's row, its number in the file, how many values it has; and all values."""

    image: Whole
    number: Whole
    counts: Whole
    values: Numbers

    @property
    def begins(self) -> Whole:
        """Where each line's values begin."""
        return np.cumsum(self.counts) - self.counts


def parse(files: list[tuple[int, str, bytes]], shape: tuple[int, int] | None) -> Lines:
    """Reads label files: each its image's row, its key and its bytes.

    Args:
        files: The files.
        shape: Number of keypoints and of values for each; None without keypoints.

    Raises:
        InvalidDataset: If a line has a value that is not a number, or a number of values that no label has.
    """
    image: list[int] = []
    number: list[int] = []
    counts: list[int] = []
    tokens: list[list[bytes]] = []
    for row, _, data in files:
        for index, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            if words := line.split():
                image.append(row)
                number.append(index)
                counts.append(len(words))
                tokens.append(words)
    try:
        values = np.fromiter(map(float, itertools.chain.from_iterable(tokens)), np.float64)
    except ValueError:
        values = np.array([math.nan])
    lines = Lines(np.array(image, np.int64), np.array(number, np.int64), np.array(counts, np.int64), values)
    plain = not any(b"_" in data for _, _, data in files)
    if not plain or not np.isfinite(values).all():
        _refuse_value(files)
    _check(lines, {row: key for row, key, _ in files}, shape)
    return lines


def _refuse_value(files: list[tuple[int, str, bytes]]) -> None:
    """Raises InvalidDataset for the first value that is not a finite number."""
    for _, key, data in files:
        for index, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            for word in line.split():
                try:
                    finite = math.isfinite(float(word)) and b"_" not in word
                except ValueError:
                    finite = False
                if not finite:
                    text = shown(word.decode(errors="replace"))
                    raise InvalidDataset(f"{key}: line {index}: {text} is not a number; {_REMEDY}.")


def _check(lines: Lines, keys: dict[int, str], shape: tuple[int, int] | None) -> None:
    def refuse(wrong: Any, problem: str) -> None:
        for line in np.flatnonzero(wrong)[:1].tolist():
            begin = lines.begins[line]
            text = shown(" ".join(f"{value:g}" for value in lines.values[begin : begin + min(lines.counts[line], 8)]))
            where = f"{keys[int(lines.image[line])]}: line {lines.number[line]}"
            raise InvalidDataset(f"{where}: {text} {problem}; {_REMEDY}.")

    if shape is not None:
        expected = BOX_VALUES + shape[0] * shape[1]
        refuse(
            lines.counts != expected,
            f"has not the {expected} numbers of a class, a box and {shape[0]} keypoints with {shape[1]} values, as kpt_shape says",
        )
    else:
        outline = (lines.counts >= _POLYGON_VALUES) & (lines.counts % 2 == 1)
        refuse(
            (lines.counts != BOX_VALUES) & ~outline,
            "is neither a class and a box (5 numbers) nor a class and the points of a polygon (7 numbers, 9, 11 …)",
        )
    classes = lines.values[lines.begins] if len(lines.counts) else np.zeros(0)
    refuse(
        (classes != np.rint(classes)) | (classes < 0) | (classes >= 2**31), "does not begin with the number of a class"
    )


def objects(lines: Lines, widths: Whole, heights: Whole, shape: tuple[int, int] | None) -> pa.Table:
    """Lines as objects, in their order.

    Args:
        lines: The lines.
        widths: The width in pixels of each line's image; 0 where it can't be read: then the object has its class alone.
        heights: The same.
        shape: Number of keypoints and of values for each; None without.
    """
    begins = lines.begins
    sized = (widths > 0) & (heights > 0)
    outlined = (lines.counts > BOX_VALUES) & (shape is None)
    box = np.zeros((len(begins), 4))
    plain = np.flatnonzero(~outlined)
    centre = lines.values[begins[plain, None] + np.arange(1, BOX_VALUES)]
    box[plain] = np.column_stack([centre[:, :2] - centre[:, 2:] / 2, centre[:, 2:]])
    points, polygons = _polygons(lines, begins, outlined & sized, widths, heights)
    for row, (left, top, right, bottom) in zip(*points, strict=True):
        box[row] = left, top, right - left, bottom - top
    pixels = box * np.column_stack([widths, heights, widths, heights])
    corners = {name: pa.array(hundredths(pixels[:, index]), mask=~sized) for index, name in enumerate(BOX)}
    return objects_table(
        image=lines.image.astype(np.int32),
        position=lines.number.astype(np.int32),
        class_id=lines.values[begins].astype(np.int32) if len(begins) else [],
        **corners,
        polygons=polygons,
        keypoints=None if shape is None else _keypoints(lines, begins, sized, widths, heights, shape),
    )


def _polygons(
    lines: Lines, begins: Whole, chosen: Any, widths: Whole, heights: Whole
) -> tuple[tuple[list[int], list[tuple[float, ...]]], pa.Array]:
    """The rows of lines with polygons and the borders of each as fractions; and all polygons in hundredths."""
    rows, borders = np.flatnonzero(chosen).tolist(), []
    polygons: list[list[list[int]] | None] = [None] * len(begins)
    for row in rows:
        points = lines.values[begins[row] + 1 : begins[row] + lines.counts[row]].reshape(-1, 2)
        borders.append((*points.min(axis=0).tolist(), *points.max(axis=0).tolist()))
        polygons[row] = [hundredths((points * (widths[row], heights[row])).reshape(-1)).tolist()]
    return (rows, borders), pa.array(polygons, pa.list_(pa.list_(pa.int32())))


def _keypoints(
    lines: Lines, begins: Whole, sized: Any, widths: Whole, heights: Whole, shape: tuple[int, int]
) -> pa.Array:
    """x and y in hundredths and visibility; with two values a keypoint is visible unless one of them is below 0."""
    count, values = shape
    flat = lines.values[begins[:, None] + BOX_VALUES + np.arange(count * values)].reshape(-1, count, values)
    if values == 2:
        seen = np.where((flat < 0).any(axis=2), 0, 2)
    else:
        stated = flat[:, :, 2]
        seen = np.where(np.isin(stated, (0, 1, 2)), stated, WRONG_VISIBILITY).astype(np.int64)
    result = np.empty((len(begins), count, 3), np.int32)
    result[:, :, :2] = hundredths(flat[:, :, :2] * np.stack([widths, heights], axis=1)[:, None])
    result[:, :, 2] = seen
    result[:, :, :2][(seen == 0) & (flat[:, :, :2] < 0).any(axis=2)] = 0
    lists = [
        row if complete else None for row, complete in zip(result.reshape(len(begins), -1).tolist(), sized, strict=True)
    ]
    return pa.array(lists, pa.list_(pa.int32()))
