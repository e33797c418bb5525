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

#: The least part of an object's box that must be left inside the picture, and its least side in pixels.
LEAST_PART, LEAST_SIDE = 0.1, 1.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Objects:
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
    across, down = Reduction(side, "linear").size(width, height)
    if (across, down) != (width, height):
        pixels = cv2.resize(pixels, (max(across, 1), max(down, 1)), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return pixels, pixels.shape[1] / width, pixels.shape[0] / height


def padded(pixels: Pixels, side: int) -> Pixels:
    """A picture in the upper left corner of a grey square."""
    square: Pixels = np.full((side, side, 3), GREY, np.uint8)
    square[: pixels.shape[0], : pixels.shape[1]] = pixels
    return square


def placed(labels: Labels, width: int, height: int) -> Objects:
    """The objects of a picture of this size, in pixels."""
    size = np.array([width, height], np.float32)
    points = labels.keypoints
    if points is not None:
        points = np.concatenate([points[..., :2] * size, points[..., 2:]], axis=-1)
    return Objects(
        labels.classes, labels.boxes * np.tile(size, 2), [corners * size for corners in labels.polygons], points
    )


def augmented(
    pixels: Pixels, objects: Objects, side: int, config: Mapping[str, Any], flip: Sequence[int]
) -> tuple[Pixels, Objects]:
    """A picture moved, scaled, flipped and recoloured at random, in a grey square, with its objects.

    Random numbers are NumPy's global ones.

    Args:
        pixels: A picture that fits into the square.
        objects: Its objects.
        side: Of the square.
        config: The settings of augmentation.
        flip: For pose the index of each keypoint's counterpart in a mirrored picture; without it no picture is mirrored.
    """
    random = np.random.uniform
    height, width = pixels.shape[:2]
    scale = random(1 - float(config["scale"]), 1 + float(config["scale"]))
    shift = random(-1, 1, 2) * float(config["translate"]) * side
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    # The middle of the picture comes to the middle of the square, then it is moved.
    matrix[:, 2] = side / 2 + shift - scale * np.array([width, height]) / 2
    mirrored = random() < float(config["fliplr"]) and (objects.keypoints is None or len(flip) > 0)
    if mirrored:
        matrix[0] = [-matrix[0, 0], 0, side - matrix[0, 2]]
    if random() < float(config["flipud"]) and objects.keypoints is None:
        matrix[1] = [0, -matrix[1, 1], side - matrix[1, 2]]
    # Pixels' centres lie at halves.
    at_centres = matrix.copy()
    at_centres[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    pixels = cv2.warpAffine(pixels, at_centres, (side, side), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)  # type: ignore[assignment]
    return _recoloured(pixels, config), _moved(objects, matrix, side, flip if mirrored else ())


def _moved(objects: Objects, matrix: NDArray[np.float64], side: int, flip: Sequence[int]) -> Objects:
    """Objects after an affine map, without those that are left outside."""

    def mapped(points: NDArray[np.float32]) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return moved

    corners = mapped(objects.boxes.reshape(-1, 2, 2))
    whole = np.concatenate([corners.min(1), corners.max(1)], axis=1).reshape(-1, 4)
    boxes = whole.clip(0, side)
    sides, before = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
    kept = (sides > LEAST_SIDE).all(1) & (sides.prod(1) > LEAST_PART * before.prod(1))
    points = objects.keypoints
    if points is not None:
        places = mapped(points[..., :2])
        seen = (points[..., 2] > 0) & ((places >= 0) & (places <= side)).all(-1)
        points = np.concatenate([places, (points[..., 2] * seen)[..., None]], axis=-1)[kept]
        if len(flip):
            points = points[:, list(flip)]
    polygons = [mapped(outline) for outline, keep in zip(objects.polygons, kept, strict=False) if keep]
    return Objects(objects.classes[kept], boxes[kept], polygons, points)


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
