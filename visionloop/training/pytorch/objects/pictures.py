"""Pictures as the models take them, and augmentation. Coordinates are pixels of the square input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.reduced import Reduction
from visionloop.training.labels import Labels

#: What a picture is padded with: the middle grey of photographs.
GREY = 114

#: The least part of an object's box that must be left inside the picture, and its least side in pixels; of an outline it is known
#: that what is left shows a part of the object. Both as in Ultralytics.
LEAST_PART, LEAST_PART_OF_OUTLINE, LEAST_SIDE = 0.1, 0.01, 1.0

#: Pixels of a row between two lines of an outline that are one line there and back, up to rounding.
NO_AREA = 1e-3

#: The settings that mirror pictures: left and right, up and down.
MIRRORS = ("fliplr", "flipud")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Targets:
    """The N objects of an input.

    Attributes:
        classes: N whole numbers.
        boxes: N × 4: x1, y1, x2, y2.
        polygons: For segmentation the outline of each, corners × 2.
        keypoints: For pose N × K × 3: x, y, and 0 where it is not seen.
    """

    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    polygons: Sequence[NDArray[np.float32]]
    keypoints: NDArray[np.float32] | None


def fitted(pixels: Pixels, side: int) -> tuple[Pixels, float, float]:
    """A picture scaled so that its longer side is ``side``, and by how much it was scaled across and down."""
    height, width = pixels.shape[:2]
    across, down = scaled(width, height, side)
    if (across, down) != (width, height):
        pixels = cv2.resize(pixels, (across, down), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return pixels, pixels.shape[1] / width, pixels.shape[0] / height


def scaled(width: int, height: int, side: int) -> tuple[int, int]:
    """The width and height of a picture whose longer side becomes ``side``."""
    return Reduction(side, "linear").size(width, height)


def padded(pixels: Pixels, side: int) -> Pixels:
    """A picture in the upper left corner of a grey square."""
    square: Pixels = np.full((side, side, 3), GREY, np.uint8)
    square[: pixels.shape[0], : pixels.shape[1]] = pixels
    return square


def placed(labels: Labels, width: int, height: int) -> Targets:
    """The objects of a picture of this size, in pixels."""
    size = np.array([width, height], np.float32)
    points = labels.keypoints
    if points is not None:
        points = np.concatenate([points[..., :2] * size, points[..., 2:]], axis=-1)
    return Targets(
        labels.classes, labels.boxes * np.tile(size, 2), [corners * size for corners in labels.polygons], points
    )


def augmented(
    pixels: Pixels, objects: Targets, side: int, config: Mapping[str, Any], flip: Sequence[int]
) -> tuple[Pixels, Targets]:
    """A picture moved, scaled, flipped and recoloured at random, in a grey square, with its objects.

    Random numbers are NumPy's global ones.

    Args:
        pixels: A picture that fits into the square.
        objects: Its objects.
        side: Of the square.
        config: The settings of augmentation.
        flip: For pose the index of each keypoint's counterpart in a mirrored picture; without it no picture is mirrored.
            Mirrored both ways, a picture is turned, and each keypoint stays what it is.
    """
    random = np.random.uniform
    height, width = pixels.shape[:2]
    scale = random(1 - float(config["scale"]), 1 + float(config["scale"]))
    shift = random(-1, 1, 2) * float(config["translate"]) * side
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    # The middle of the picture comes to the middle of the square, then it is moved.
    matrix[:, 2] = side / 2 + shift - scale * np.array([width, height]) / 2
    can = objects.keypoints is None or len(flip) > 0
    across, down = (random() < float(config[name]) and can for name in MIRRORS)
    if across:
        matrix[0] = [-matrix[0, 0], 0, side - matrix[0, 2]]
    if down:
        matrix[1] = [0, -matrix[1, 1], side - matrix[1, 2]]
    # Pixels' centres lie at halves.
    at_centres = matrix.copy()
    at_centres[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    pixels = cv2.warpAffine(pixels, at_centres, (side, side), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)  # type: ignore[assignment]
    return _recoloured(pixels, config), _moved(objects, matrix, side, flip if across != down else ())


def _moved(objects: Targets, matrix: NDArray[np.float64], side: int, flip: Sequence[int]) -> Targets:
    """Objects after an affine map, without those that are left outside."""

    def mapped(points: NDArray[np.float32]) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return moved

    corners = mapped(objects.boxes.reshape(-1, 2, 2))
    whole = np.concatenate([corners.min(1), corners.max(1)], axis=1).reshape(-1, 4)
    boxes = whole.clip(0, side)
    outlines = [mapped(outline) for outline in objects.polygons]
    for index in np.flatnonzero((boxes != whole).any(1)) if outlines else ():
        boxes[index] = _seen(outlines[index], side)
    sides, before = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
    part = LEAST_PART_OF_OUTLINE if outlines else LEAST_PART
    kept = (sides > LEAST_SIDE).all(1) & (sides.prod(1) > part * before.prod(1))
    points = objects.keypoints
    if points is not None:
        coordinates = mapped(points[..., :2])
        seen = (points[..., 2] > 0) & ((coordinates >= 0) & (coordinates <= side)).all(-1)
        points = np.concatenate([coordinates, (points[..., 2] * seen)[..., None]], axis=-1)[kept]
        if len(flip):
            points = points[:, list(flip)]
    polygons = [outline for outline, keep in zip(outlines, kept, strict=False) if keep]
    return Targets(objects.classes[kept], boxes[kept], polygons, points)


def _seen(outline: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The box of what an outline encloses of the square, to half a pixel; zeros if that is nothing.

    It is looked at along the middle of each row. A line there and back, which joins two parts of an object, encloses nothing.
    """
    (x, y), (next_x, next_y) = outline.T.astype(np.float64)[:, :, None], np.roll(outline, -1, axis=0).T[:, :, None]
    middles = np.arange(side) + 0.5
    crossed = (y > middles) != (next_y > middles)
    along = (middles - y) / np.where(y == next_y, 1, next_y - y)
    crossings = np.sort(np.where(crossed, x + along * (next_x - x), np.inf), axis=0).clip(0, side)
    # An outline crosses a row an even number of times.
    starts, ends = crossings[: len(crossings) // 2 * 2].reshape(-1, 2, side).swapaxes(0, 1)
    inside = ends - starts > NO_AREA
    rows = np.flatnonzero(inside.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([starts[inside].min(), rows[0], ends[inside].max(), rows[-1] + 1], np.float32)


def _recoloured(pixels: Pixels, config: Mapping[str, Any]) -> Pixels:
    gains = np.array([float(config[name]) for name in ("hsv_h", "hsv_s", "hsv_v")])
    if not gains.any():
        return pixels
    hue, saturation, value = np.random.uniform(-1, 1, 3) * gains
    parts = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.int16)
    parts[..., 0] = (parts[..., 0] + round(hue * 180)) % 180
    parts[..., 1] = (parts[..., 1] * (1 + saturation)).clip(0, 255)
    parts[..., 2] = (parts[..., 2] * (1 + value)).clip(0, 255)
    return cv2.cvtColor(parts.astype(np.uint8), cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def drawn(outlines: Sequence[NDArray[np.float32]], side: int, shrunk: int = 1) -> NDArray[np.uint8]:
    """The masks of outlines, 1 inside, as Ultralytics draws those of its labels: with the pixels under the outline.

    Args:
        outlines: Corners × 2 each.
        side: Of the square that they lie in.
        shrunk: How much smaller a mask is.

    Returns:
        N × side // shrunk × side // shrunk.
    """
    small, whole = side // shrunk, np.zeros((side, side), np.uint8)
    masks = np.zeros((len(outlines), small, small), np.uint8)
    for mask, outline in zip(masks, outlines, strict=True):
        whole.fill(0)
        cv2.fillPoly(whole, [np.floor(outline).astype(np.int32)], 1)
        mask[:] = cv2.resize(whole, (small, small))
    return masks
