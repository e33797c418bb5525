"""How far what an exported model finds is from what the model itself finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.training.trainers import Rows

#: The most confident objects of a picture that are compared.
MOST = 100

#: Boxes of a smaller area in pixels are not compared: their overlap says nothing.
LEAST_AREA = 1.0

#: From this overlap on two boxes may be the same object.
SAME = 0.9


@dataclass(frozen=True)
class Difference:
    """The largest differences.

    Attributes:
        overlap: The least overlap (IoU) of an object's two boxes, 1 where there is none; 0 for one that the other lacks.
        score: The largest difference of a score.
        further: The largest difference of another number: a keypoint's in pixels of the input, a mask's.
        objects: How many objects were compared.
    """

    overlap: float = 1.0
    score: float = 0.0
    further: float = 0.0
    objects: int = 0

    def joined(self, other: Difference) -> Difference:
        """The worse of both in each respect."""
        return Difference(
            min(self.overlap, other.overlap),
            max(self.score, other.score),
            max(self.further, other.further),
            self.objects + other.objects,
        )


def difference(first: Rows, second: Rows) -> Difference:
    """The differences of two models' outputs for one picture, as sets: near-equal scores may come in another order."""
    whole = _largest(first.whole, second.whole)
    if first.boxes is None or second.boxes is None:
        return Difference(score=_largest(first.scores, second.scores), further=whole)
    both = _missing(first, second).joined(_missing(second, first))
    return both.joined(Difference(further=whole))


def _missing(first: Rows, second: Rows) -> Difference:
    """What of the first model's objects the second one lacks."""
    assert first.boxes is not None  # noqa: S101 (asked by the caller)
    assert second.boxes is not None  # noqa: S101
    order = np.argsort(-first.scores, axis=None, kind="stable")[:MOST]
    found = Difference()
    for row, index in zip(*np.unravel_index(order, first.scores.shape), strict=True):
        box = first.boxes[row]
        if _area(box[None])[0] < LEAST_AREA:
            continue
        shared = overlaps(box, second.boxes)
        near = np.flatnonzero(shared >= SAME)
        if not len(near):
            found = found.joined(Difference(overlap=float(shared.max(initial=0.0)), objects=1))
            continue
        scores = np.abs(second.scores[near, index] - first.scores[row, index])
        best = near[np.lexsort((-shared[near], np.round(scores, 4)))[0]]
        further = 0.0
        if first.further is not None and second.further is not None:
            further = _largest(first.further[row], second.further[best])
        score = float(abs(second.scores[best, index] - first.scores[row, index]))
        found = found.joined(Difference(float(shared[best]), score, further, 1))
    return found


def _largest(first: NDArray[Any] | None, second: NDArray[Any] | None) -> float:
    """The largest difference of two arrays; infinite where they have not the same shape."""
    if first is None or second is None:
        return 0.0
    if first.shape != second.shape:
        return float("inf")
    return float(np.abs(first.astype(np.float64) - second.astype(np.float64)).max(initial=0.0))


def _area(boxes: NDArray[Any]) -> NDArray[Any]:
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)


def overlaps(box: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.float64]:
    """The intersection over union of a box with each of others."""
    shared = np.concatenate([np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])], 1)
    shared_area = _area(shared)
    union = _area(box[None])[0] + _area(boxes) - shared_area
    return np.where(union > 0, shared_area / np.maximum(union, 1e-9), 0.0)
