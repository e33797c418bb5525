"""Run-length masks of COCO, and their outlines as polygons.

A mask's runs count pixels down the columns, first those that are not set (https://cocodataset.org/#format-data). An outline runs along
the pixels' edges, so it encloses exactly the mask's area. Holes are joined to the outline around them by a cut of no width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

#: The most pixels that a mask has: those of the largest image.
MOST_PIXELS = 178_956_970

#: How many distances between the points of two rings are held at once.
_DISTANCES = 2**20

#: How far an outline may leave the pixels' edges: a staircase of single pixels becomes a line.
_STEP = 0.75

#: The area in pixels below which an outline keeps all its corners.
_SMALL = 9

#: How many cells a union is drawn in.
_CELLS = 2**20

Points = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outlines:
    """A mask's polygons: each x1, y1, x2, y2 … in pixels, one for each part; and how many holes they go around."""

    polygons: tuple[tuple[int, ...], ...]
    holes: int


def runs(counts: Sequence[int] | str) -> npt.NDArray[np.int64]:
    """The runs of a mask from their list or from COCO's compressed text. Raises ValueError with what is wrong."""
    if not isinstance(counts, str):
        return np.array(counts, np.int64)
    values: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("its text is not a run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        values.append(value + (values[-2] if len(values) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its text ends within a run")
    return np.array(values, np.int64)


def compressed(pixels: npt.NDArray[np.bool_], left: int, top: int, height: int, width: int) -> str:
    """COCO's compressed text of a mask.

    Args:
        pixels: The part of the mask outside which nothing is set, rows × columns.
        left: The column of its first one.
        top: The row of its first one.
        height: Of the whole mask, in pixels.
        width: Of the whole mask, in pixels.
    """
    columns = np.zeros((pixels.shape[1], height), bool)
    columns[:, top : top + len(pixels)] = pixels.T
    flat = np.concatenate([[False], columns.reshape(-1), [False]])
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + left * height
    lengths = np.diff(turns, prepend=0, append=height * width).tolist()
    if len(lengths) > 1 and lengths[-1] == 0:
        lengths.pop()  # the mask ends with a pixel that is set
    characters = []
    for index, length in enumerate(lengths):
        value = length - lengths[index - 2] if index > 2 else length
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            characters.append(chr((bits | 32 if more else bits) + 48))
    return "".join(characters)


def outlined(pixels: npt.NDArray[np.bool_], left: int, top: int) -> tuple[list[list[float]], list[list[float]]]:
    """The outlines of a mask's parts and of the holes in them, each x1, y1, x2, y2 …, to within ``_STEP`` of a pixel's edges.

    Args:
        pixels: Rows × columns.
        left: x of its left border in the picture.
        top: y of its upper border.
    """
    parts: list[list[float]] = []
    holes: list[list[float]] = []
    set_pixels = np.ascontiguousarray(pixels, np.uint8)
    for ring in _rings(set_pixels):
        x, y = min((int(y), int(x)) for x, y in ring)[::-1]
        corners = cv2.approxPolyDP(ring.astype(np.float32), _STEP, closed=True).reshape(-1, 2)
        if len(corners) < 3 or cv2.contourArea(corners) < _SMALL:
            corners = ring.astype(np.float32)
        (parts if set_pixels[y, x] else holes).append(
            (corners + np.array([left, top], np.float32)).reshape(-1).tolist()
        )
    return parts, holes


def outlines(counts: Sequence[int] | str, height: int, width: int) -> Outlines:
    """The outlines of a mask.

    Args:
        counts: Its runs, or COCO's compressed text.
        height: In pixels.
        width: In pixels.

    Raises:
        ValueError: If the runs are not those of a mask of this size; the text says why.
    """
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"{width:,} × {height:,} is not the size of a mask")
    lengths = runs(counts)
    if len(lengths) and (lengths.min() < 0 or lengths.max() > MOST_PIXELS):
        raise ValueError("a run is negative or too long")
    if lengths.sum() != height * width:
        raise ValueError(f"its runs have {lengths.sum():,} pixels, not the {width} × {height} of its size")
    ends = np.cumsum(lengths)
    set_ends = ends[1::2]
    set_begins = ends[0::2][: len(set_ends)]
    some = set_ends > set_begins
    set_begins, set_ends = set_begins[some], set_ends[some]
    if not len(set_begins):
        return Outlines((), 0)
    first, last = int(set_begins[0]) // height, (int(set_ends[-1]) - 1) // height
    steps = np.zeros((last - first + 1) * height + 1, np.int8)
    np.add.at(steps, set_begins - first * height, 1)
    np.add.at(steps, set_ends - first * height, -1)
    pixels = np.cumsum(steps[:-1], dtype=np.int8).reshape(-1, height).T
    rows = np.flatnonzero(pixels.any(axis=1))
    top = int(rows[0])
    return _traced(np.ascontiguousarray(pixels[top : rows[-1] + 1]).astype(np.uint8), first, top)


def _traced(pixels: npt.NDArray[np.uint8], left: int, top: int) -> Outlines:
    """The outlines of a picture of 0 and 1 whose upper left corner lies at ``left``, ``top``."""
    labels = cv2.connectedComponents(pixels, connectivity=4)[1]
    parts: dict[int, Points] = {}
    holes: list[tuple[int, Points]] = []
    for ring in _rings(pixels):
        x, y = min((int(y), int(x)) for x, y in ring)[::-1]
        if pixels[y, x]:
            parts[int(labels[y, x])] = _turned(ring, clockwise=True)
        else:
            holes.append((int(labels[y - 1, x]), _turned(ring, clockwise=False)))
    for part, ring in holes:
        parts[part] = _joined(parts[part], ring)
    offset = np.array([left, top])
    polygons = (tuple((parts[part] + offset).reshape(-1).tolist()) for part in sorted(parts))
    return Outlines(tuple(polygons), len(holes))


def _rings(pixels: npt.NDArray[np.uint8]) -> list[Points]:
    """The closed lines between 0 and 1, each as its corners. Where two pixels touch at a corner alone they are apart."""
    padded = np.pad(pixels, 1)
    up_left, up_right = padded[:-1, :-1], padded[:-1, 1:]
    down_left, down_right = padded[1:, :-1], padded[1:, 1:]
    number = up_left + up_right + down_left + down_right
    crossing = (number == 2) & (up_left == down_right)
    # A crossing is two corners: one with the line to its left, one with that to its right.
    y, x = np.nonzero((number % 2 == 1) | crossing)
    twice = crossing[y, x]
    y, x = np.repeat(y, 1 + twice), np.repeat(x, 1 + twice)
    count = len(y)
    # In the order of rows, each two neighbours are the ends of a horizontal line.
    across = np.arange(count) ^ 1
    second = np.zeros(count, bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    of_crossing = second.copy()
    of_crossing[:-1] |= second[1:]
    # At a crossing the corner with the line to its left belongs to the pixel above if that one is set, else to the one below.
    below = np.where(up_left[y, x] == 1, second, ~second) & of_crossing
    order = np.lexsort((below, y, x))
    down = np.empty(count, np.int64)
    down[order] = order[np.arange(count) ^ 1]
    points = np.stack([x, y], axis=1)
    rings, seen = [], np.zeros(count, bool)
    across_list, down_list = across.tolist(), down.tolist()
    for start in range(count):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            other = across_list[corner]
            seen[corner] = seen[other] = True
            ring += [corner, other]
            corner = down_list[other]
        rings.append(points[ring])
    return rings


def _turned(ring: Points, *, clockwise: bool) -> Points:
    """A ring in one direction, as seen with y downwards."""
    following = np.roll(ring, -1, axis=0)
    doubled = int((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum())
    return ring if (doubled > 0) == clockwise else ring[::-1]


def joined(rings: Sequence[Points]) -> Points:
    """Rings as one outline: each is joined to those before it, there and back, by a cut between the two nearest points."""
    outline = rings[0]
    for ring in rings[1:]:
        outline = _joined(outline, ring)
    return outline


def united(rings: Sequence[Points]) -> tuple[list[Points], bool]:
    """Rings that together enclose the union of what each encloses, and whether some overlapped.

    Joined to one outline, what two of them enclose would count as outside. Where they overlap, the outline of the union is
    drawn in steps of a fraction of their extent.

    Args:
        rings: Corners in whole units.
    """
    boxes = np.array([(*ring.min(axis=0), *ring.max(axis=0)) for ring in rings])
    near = (boxes[:, None, :2] < boxes[None, :, 2:]).all(axis=2) & (boxes[None, :, :2] < boxes[:, None, 2:]).all(axis=2)
    if not np.triu(near, 1).any():
        return list(rings), False
    corner, extent = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
    step = max(1, int(np.ceil(np.sqrt(extent.prod() / _CELLS))))
    columns, rows = (-(-extent // step)).tolist()
    fills = [_filled((ring - corner) / step, rows, columns) for ring in rings]
    if not (np.sum(fills, axis=0) > 1).any():
        return list(rings), False
    traced = _traced(np.logical_or.reduce(fills).astype(np.uint8), 0, 0)
    # The last step may reach beyond what was drawn.
    corners = (np.array(polygon).reshape(-1, 2) * step for polygon in traced.polygons)
    return [np.minimum(ring, extent) + corner for ring in corners], True


def _filled(ring: npt.NDArray[np.float64], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The cells whose centres an odd number of a ring's turns encloses."""
    crossings = np.zeros((rows, columns + 1), np.int32)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        between = np.arange(max(0, int(np.ceil(min(y1, y2) - 0.5))), min(rows, int(np.ceil(max(y1, y2) - 0.5))))
        x = x1 + (between + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        np.add.at(crossings, (between, np.clip(np.ceil(x - 0.5), 0, columns).astype(np.int64)), 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    return inside


def _joined(outline: Points, hole: Points) -> Points:
    """An outline with a hole in it: there and back by a cut between the two nearest points."""
    rows = max(1, _DISTANCES // len(hole))
    nearest, least = (0, 0), -1
    for start in range(0, len(outline), rows):
        distances = ((outline[start : start + rows, None] - hole[None]) ** 2).sum(axis=2)
        row, column = divmod(int(distances.argmin()), len(hole))
        if least < 0 or distances[row, column] < least:
            nearest, least = (start + row, column), int(distances[row, column])
    at, first = nearest
    turned = np.roll(hole, -first, axis=0)
    return np.concatenate([outline[: at + 1], turned, turned[:1], outline[at:]])
