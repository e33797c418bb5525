"""Detections matched with true objects by their boxes: greedily, the most confident first, to those of the same class with an
intersection over union of at least 0.5, as for a confusion matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

from visionloop.training.trainers import Prediction

OVERLAP = 0.5

Box = tuple[float, float, float, float]


def match(truth: Sequence[Prediction], predicted: Sequence[Prediction]) -> tuple[list[int], list[int]]:
    """Returns the indices of missed objects, and of detections without a match."""
    missed = list(range(len(truth)))
    wrong = []
    for index in sorted(range(len(predicted)), key=lambda index: -predicted[index].confidence):
        detection = predicted[index]
        candidates = [other for other in missed if truth[other].class_index == detection.class_index]
        overlaps = {other: overlap(box_of(truth[other]), box_of(detection)) for other in candidates}
        best = max(candidates, key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] >= OVERLAP:
            missed.remove(best)
        else:
            wrong.append(index)
    return missed, sorted(wrong)


def box_of(entry: Prediction) -> Box:
    """The box of an object; a class of a whole image has none, and is never compared here."""
    if entry.box is None:
        raise ValueError("a class of a whole image has no box")
    return entry.box


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2; 0 for boxes without area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    union = area(first) + area(second) - intersection
    return intersection / union if union > 0 else 0.0


def area(box: Box) -> float:
    """A box's area in square pixels."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
