"""Scenes of handwritten digits with tight boxes, and pictures of one digit each, composed from scikit-learn's ``load_digits`` (UCI, 8 × 8 pixels, real)."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: The side of a scene and the range of a digit's height, in pixels.
SCENE_SIDE = 160
DIGIT_HEIGHTS = (28, 48)

#: How many digits a scene holds, and the fewest pixels between two of them.
DIGITS_PER_SCENE = (2, 5)
GAP = 2

#: The side of a picture of one digit, in pixels.
PICTURE_SIDE = 64

#: The keypoints of a digit: its outermost pixels.
EXTREMES = ("top", "right", "bottom", "left")

#: Shares of the source digits that each split draws from; a digit serves one split only.
SOURCE_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}

#: Coverage below this share of full ink is not drawn, so that a box ends where the eye sees the digit end.
FAINTEST_INK = 0.2


@dataclass(frozen=True)
class Digit:
    """One digit: its class index, its tight box, left, top, width, height in pixels, and which of the box's pixels are drawn."""

    class_index: int
    left: int
    top: int
    mask: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """Of its box."""
        return int(self.mask.shape[1])

    @property
    def height(self) -> int:
        """Of its box."""
        return int(self.mask.shape[0])

    def extremes(self) -> tuple[tuple[float, float], ...]:
        """The centres of its outermost pixels in the picture, as ``EXTREMES`` names them; of several the middle one."""
        rows, columns = np.nonzero(self.mask)
        chosen = []
        for values, others, furthest in (
            (rows, columns, rows.min()),
            (columns, rows, columns.max()),
            (rows, columns, rows.max()),
            (columns, rows, columns.min()),
        ):
            among = np.flatnonzero(values == furthest)
            at = among[np.argsort(others[among])[len(among) // 2]]
            chosen.append((self.left + float(columns[at]) + 0.5, self.top + float(rows[at]) + 0.5))
        return tuple(chosen)


@dataclass(frozen=True)
class Scene:
    """A picture, RGB of shape (height, width, 3), and its digits."""

    pixels: NDArray[np.uint8]
    digits: tuple[Digit, ...]

    def png(self) -> bytes:
        """The picture as PNG; equal scenes give equal bytes."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels, "RGB").save(buffer, "PNG", compress_level=6)
        return buffer.getvalue()


@cache
def source_digits(split: str) -> tuple[tuple[int, NDArray[np.uint8]], ...]:
    """The digits that a split draws from: class index, and coverage from 0 to 255, cropped to what is drawn.

    Raises:
        KeyError: If the split is not train, val or test.
    """
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    coverages = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    first = 0.0
    for name, share in SOURCE_SHARES.items():
        if name == split:
            break
        first += share
    last = first + SOURCE_SHARES[split]
    chosen = []
    for class_index in range(len(CLASS_NAMES)):
        members = np.flatnonzero(targets == class_index)
        # Consecutive digits are by the same hands: blocks keep a writer in one split, by and large.
        for index in members[round(first * len(members)) : round(last * len(members))]:
            rows, columns = np.nonzero(coverages[index] >= 255 * FAINTEST_INK)
            cropped = coverages[index][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            chosen.append((class_index, cropped))
    return tuple(chosen)


def compose(split: str, number: int, seed: int = 0) -> Scene:
    """The scene with this number in a split, the same whatever the number of others.

    Args:
        split: train, val or test.
        number: From 0.
        seed: Another seed gives other scenes.

    Returns:
        The scene, with boxes from the pixels drawn.
    """
    chance = random.Random(f"{seed}:{split}:{number}")  # noqa: S311 - reproducible on purpose
    canvas = _paper(SCENE_SIDE, chance)
    digits: list[Digit] = []
    sources = source_digits(split)
    for _ in range(chance.randint(*DIGITS_PER_SCENE)):
        class_index, coverage = sources[chance.randrange(len(sources))]
        ink = np.array([chance.randint(0, 80) for _ in range(3)], dtype=np.float64)
        drawn = _scale(coverage, chance.randint(*DIGIT_HEIGHTS))
        height, width = drawn.shape
        corner = _free_corner(digits, width, height, chance)
        if corner is None:
            continue
        digits.append(_draw(canvas, class_index, drawn, corner, ink))
    return Scene(np.rint(canvas).astype(np.uint8), tuple(digits))


def picture(split: str, number: int, seed: int = 0) -> Scene:
    """The picture of one digit with this number in a split; ten in a row show each digit once.

    The arguments are those of `compose`.
    """
    chance = random.Random(f"{seed}:{split}:one:{number}")  # noqa: S311 - reproducible on purpose
    canvas = _paper(PICTURE_SIDE, chance)
    of_class = [entry for entry in source_digits(split) if entry[0] == number % len(CLASS_NAMES)]
    class_index, coverage = of_class[chance.randrange(len(of_class))]
    ink = np.array([chance.randint(0, 80) for _ in range(3)], dtype=np.float64)
    drawn = _scale(coverage, chance.randint(*DIGIT_HEIGHTS))[:, :PICTURE_SIDE]
    height, width = drawn.shape
    corner = chance.randint(0, PICTURE_SIDE - width), chance.randint(0, PICTURE_SIDE - height)
    digit = _draw(canvas, class_index, drawn, corner, ink)
    return Scene(np.rint(canvas).astype(np.uint8), (digit,))


def _paper(side: int, chance: random.Random) -> NDArray[np.float64]:
    paper = np.array([chance.randint(205, 255) for _ in range(3)], dtype=np.float64)
    return np.broadcast_to(paper, (side, side, 3)).copy()


def _draw(
    canvas: NDArray[np.float64],
    class_index: int,
    drawn: NDArray[np.float64],
    corner: tuple[int, int],
    ink: NDArray[np.float64],
) -> Digit:
    (left, top), (height, width) = corner, drawn.shape
    region = canvas[top : top + height, left : left + width]
    region += drawn[:, :, None] * (ink - region)
    return Digit(class_index, left, top, drawn > 0)


def _scale(coverage: NDArray[np.uint8], height: int) -> NDArray[np.float64]:
    """Coverage from 0 to 1 at about this height, with no empty row or column at its border."""
    rows, columns = coverage.shape
    size = (max(4, round(columns * height / rows)), height)
    drawn = np.asarray(Image.fromarray(coverage).resize(size, Image.Resampling.BICUBIC), dtype=np.float64) / 255
    drawn[drawn < FAINTEST_INK] = 0
    inked_rows, inked_columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return drawn[inked_rows[0] : inked_rows[-1] + 1, inked_columns[0] : inked_columns[-1] + 1]


def _free_corner(digits: list[Digit], width: int, height: int, chance: random.Random) -> tuple[int, int] | None:
    """A left and top corner at which nothing is covered, or None if 200 tries find none."""
    for _ in range(200):
        left, top = chance.randint(0, SCENE_SIDE - width), chance.randint(0, SCENE_SIDE - height)
        if all(
            left + width + GAP <= box.left
            or box.left + box.width + GAP <= left
            or top + height + GAP <= box.top
            or box.top + box.height + GAP <= top
            for box in digits
        ):
            return left, top
    return None
