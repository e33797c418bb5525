"""How much detections and true objects overlap: by box, by mask and by keypoints.

All is of single precision with the same small number in each divisor as in the Ultralytics library, so that an overlap at a
threshold is on the same side of it there and here.
"""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

Array = NDArray[Any]

#: Added to a divisor, so that nothing is divided by 0.
EPSILON = 1e-7

#: The most pixels of masks that are compared at once, of all masks together.
PIXELS = 2**24

#: How far COCO's 17 keypoints lie apart when several persons mark the same, for the object keypoint similarity
#: (https://cocodataset.org/#keypoints-eval).
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)

#: The share of its box that an object with keypoints covers, where its own area is not known.
COVERED = 0.53


def of_boxes(true: Array, detected: Array) -> Array:
    """Intersection over union of boxes.

    Args:
        true: N × 4: x1, y1, x2, y2.
        detected: D × 4.

    Returns:
        N × D.
    """
    true, detected = true.astype(numpy.float32), detected.astype(numpy.float32)
    start = numpy.maximum(true[:, None, :2], detected[:, :2])
    end = numpy.minimum(true[:, None, 2:], detected[:, 2:])
    shared = (end - start).clip(0).prod(axis=2)
    return _over_union(shared, *((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (true, detected)))


def of_masks(true: Array, detected: Array) -> Array:
    """Intersection over union of masks.

    Args:
        true: N × H × W truth values.
        detected: D × H × W.

    Returns:
        N × D.
    """
    height, width = true.shape[1:]
    shared = numpy.zeros((len(true), len(detected)), numpy.float32)
    rows = max(1, PIXELS // (width * (len(true) + len(detected))))
    for top in range(0, height, rows):
        ours, theirs = (
            masks[:, top : top + rows].reshape(len(masks), -1).astype(bool).astype(numpy.float32)
            for masks in (true, detected)
        )
        shared += ours @ theirs.T
    areas = (numpy.count_nonzero(masks, axis=(1, 2)).astype(numpy.float32) for masks in (true, detected))
    return _over_union(shared, *areas)


def _over_union(shared: Array, true: Array, detected: Array) -> Array:
    """N × D shared areas over those that N true and D detected areas cover together."""
    overlaps: Array = shared / (true[:, None] + detected - shared + numpy.float32(EPSILON))
    return overlaps


def of_keypoints(true: Array, boxes: Array, detected: Array) -> Array:
    """Object keypoint similarity: the mean over an object's labelled keypoints of exp(-d² / (2 s² (2σ)²)).

    d is the distance of the detected keypoint, s² the object's area and σ one in K, or `COCO_SIGMAS` of 17 keypoints. It is 0 for an
    object without a labelled keypoint (https://cocodataset.org/#keypoints-eval).

    Args:
        true: N × K × 3: x, y and visibility, 0 where a keypoint is not labelled.
        boxes: Their boxes, N × 4: x1, y1, x2, y2.
        detected: D × K × 2 or more: x and y first.

    Returns:
        N × D.
    """
    true, boxes, detected = (rows.astype(numpy.float32) for rows in (true, boxes, detected))
    number = true.shape[1]
    sigmas = COCO_SIGMAS if number == len(COCO_SIGMAS) else (1 / number,) * number
    labelled = true[:, None, :, 2] != 0
    distances = numpy.square(true[:, None, :, :2] - detected[:, :, :2]).sum(axis=3)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * COVERED + EPSILON
    spreads = 2 * numpy.square(2 * numpy.array(sigmas, numpy.float32)) * areas[:, None, None]
    similar = (numpy.exp(-distances / spreads) * labelled).sum(axis=2)
    similarities: Array = similar / (labelled.sum(axis=2, dtype=numpy.float32) + numpy.float32(EPSILON))
    return similarities
