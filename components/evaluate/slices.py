"""Precision and recall of parts of a split: small, medium and large objects (COCO's areas), from predictions alone.

Detections of at least 0.25 confidence are matched greedily, the most confident first, to true boxes of the same class with
an intersection over union of at least 0.5, as for a confusion matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from visionloop.data.sizes import SIZES, size_of
from visionloop.training.trainers import Detection

OVERLAP = 0.5

Box = tuple[float, float, float, float]


@dataclass
class Counts:
    """The counts of a slice: true objects, those that were matched, and detections without a match."""

    objects: int = 0
    matched: int = 0
    false: int = 0

    def metrics(self) -> dict[str, float]:
        """Returns the counts, recall (over true objects) and precision (over detections), where they are defined."""
        values: dict[str, float] = {"objects": self.objects, "detections": self.matched + self.false}
        if self.objects:
            values["recall"] = self.matched / self.objects
        if self.matched + self.false:
            values["precision"] = self.matched / (self.matched + self.false)
        return values


@dataclass
class Slices:
    """Counts by slice, filled image by image."""

    counts: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in SIZES})
    images: int = 0

    def add(self, truth: Sequence[Detection], predicted: Sequence[Detection]) -> int:
        """Counts one image. Returns the number of its mistakes: missed objects and detections without a match."""
        self.images += 1
        unmatched = match(truth, predicted)
        missed = set(unmatched[0])
        for index, box in enumerate(truth):
            counts = self.counts[size_of(area(box.box))]
            counts.objects += 1
            counts.matched += index not in missed
        for index in unmatched[1]:
            self.counts[size_of(area(predicted[index].box))].false += 1
        return len(unmatched[0]) + len(unmatched[1])

    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics by slice; slices with neither objects nor detections are left out."""
        return {
            f"size:{name}": counts.metrics() for name, counts in self.counts.items() if counts.objects or counts.false
        }


def match(truth: Sequence[Detection], predicted: Sequence[Detection]) -> tuple[list[int], list[int]]:
    """Returns the indices of missed objects, and of detections without a match."""
    missed = list(range(len(truth)))
    wrong = []
    for index in sorted(range(len(predicted)), key=lambda index: -predicted[index].confidence):
        detection = predicted[index]
        candidates = [other for other in missed if truth[other].class_index == detection.class_index]
        best = max(candidates, key=lambda other: overlap(truth[other].box, detection.box), default=None)
        if best is not None and overlap(truth[best].box, detection.box) >= OVERLAP:
            missed.remove(best)
        else:
            wrong.append(index)
    return missed, sorted(wrong)


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
