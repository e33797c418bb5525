"""Run-length masks become polygons that enclose exactly their pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.data.annotations.masks import compressed as code
from visionloop.data.annotations.masks import outlined, outlines, runs

Mask = npt.NDArray[np.uint8]


def counts_of(mask: Mask) -> list[int]:
    flat = mask.T.reshape(-1)
    borders = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    ends = np.concatenate([[0], borders, [len(flat)] if len(borders) == 0 or borders[-1] != len(flat) else []])
    return [int(number) for number in np.diff(ends)]


def compressed(counts: list[int]) -> str:
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
    return text


def filled(polygons: Any, shape: tuple[int, int]) -> Mask:
    """The pixels whose centres lie within an odd number of a polygon's turns, for any of the polygons."""
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        ring = np.array(polygon).reshape(-1, 2)
        inside = np.zeros(shape, bool)
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            for row in range(min(y1, y2), max(y1, y2)):
                crossing = x1 + (row + 0.5 - y1) * (x2 - x1) / (y2 - y1)
                inside[row] ^= np.arange(shape[1]) + 0.5 > crossing
        mask |= inside.astype(np.uint8)
    return mask


masks = st.integers(1, 9).flatmap(
    lambda height: st.lists(st.lists(st.integers(0, 1), min_size=height, max_size=height), min_size=1, max_size=9)
)


@settings(max_examples=60)
@given(masks)
def test_polygons_enclose_the_masks_pixels(columns: list[list[int]]) -> None:
    mask = np.array(columns, np.uint8).T
    result = outlines(counts_of(mask), *mask.shape)
    assert (filled(result.polygons, mask.shape) == mask).all()


@settings(max_examples=60)
@given(masks)
def test_a_compressed_text_holds_the_same_runs(columns: list[list[int]]) -> None:
    counts = counts_of(np.array(columns, np.uint8).T)
    assert runs(compressed(counts)).tolist() == counts


@settings(max_examples=60)
@given(masks, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_the_compressed_text_of_a_part_is_that_of_the_whole_mask(
    columns: list[list[int]], left: int, top: int, right: int, bottom: int
) -> None:
    part = np.array(columns, np.uint8).T
    whole = np.pad(part, ((top, bottom), (left, right)))
    result = code(part.astype(bool), left, top, *whole.shape)
    assert result == compressed(counts_of(whole))


@settings(max_examples=60)
@given(masks)
def test_parts_and_holes_are_outlined_apart(columns: list[list[int]]) -> None:
    """Masks of a few pixels keep all their corners: what the parts enclose without the holes is the mask."""
    mask = np.array(columns, np.uint8).T
    parts, holes = outlined(mask.astype(bool), 0, 0)
    enclosed = np.zeros(mask.shape, np.int64)
    for sign, rings in ((1, parts), (-1, holes)):
        for ring in rings:
            enclosed += sign * filled([np.array(ring, int)], mask.shape).astype(np.int64)
    large = [ring for ring in (*parts, *holes) if cv2.contourArea(np.array(ring, np.float32).reshape(-1, 2)) >= 9]
    if not large:
        assert (enclosed == mask).all()


def test_a_staircase_is_outlined_by_a_line() -> None:
    mask = np.tri(60, dtype=bool)
    ((*corners,), *others), holes = outlined(mask, 100, 200)
    assert (others, holes) == ([], [])
    assert len(corners) // 2 <= 5
    assert cv2.contourArea(np.array(corners, np.float32).reshape(-1, 2)) == pytest.approx(mask.sum(), rel=0.03)
    assert min(corners[::2]) == 100
    assert max(corners[1::2]) == 260


def test_parts_and_holes_are_counted() -> None:
    mask = np.zeros((9, 20), np.uint8)
    mask[1:8, 1:8] = 1
    mask[3:5, 3:5] = 0
    mask[6, 5] = 0
    mask[2:4, 12:19] = 1
    result = outlines(counts_of(mask), *mask.shape)
    assert (len(result.polygons), result.holes) == (2, 2)
    assert result.polygons[1] == (12, 2, 19, 2, 19, 4, 12, 4)


def test_a_mask_without_a_pixel_has_no_outline() -> None:
    assert outlines([6], 2, 3).polygons == ()


@pytest.mark.parametrize(
    ("counts", "size", "words"),
    [
        ([1, 2], (2, 2), "3 pixels, not the 2 × 2"),
        ([-1, 5], (2, 2), "negative"),
        ([2**62, 2**62], (2, 2), "too long"),
        ("é", (2, 2), "not a run-length code"),
        ("o" * 20, (2, 2), "not a run-length code"),
        ("o", (2, 2), "ends within a run"),
        ([1], (10**6, 10**6), "not the size of a mask"),
        ([1], (0, 1), "not the size of a mask"),
    ],
)
def test_what_is_no_mask_is_refused(counts: Any, size: tuple[int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        outlines(counts, *size)
