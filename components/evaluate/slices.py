"""Precision and recall of parts of a split: small, medium and large objects (COCO's areas), from predictions alone.

Objects are compared by their boxes, also where they have a mask or keypoints. Detections of at least 0.25 confidence are matched greedily, the most confident first, to true boxes of the same class with
an intersection over union of at least 0.5, as for a confusion matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from visionloop.data.sizes import SIZES, size_of
from visionloop.training.trainers import Prediction

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

    def add(
        self, truth: Sequence[Prediction], predicted: Sequence[Prediction], aside: Collection[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Counts one image.

        Args:
            truth: The true objects.
            predicted: The detections.
            aside: The indices of those that are not wrong where they match nothing: they lie in a crowd region.

        Returns:
            The indices of the mistakes: missed objects, and detections without a match.
        """
        self.images += 1
        missed, wrong = match(truth, predicted)
        wrong = [index for index in wrong if index not in aside]
        for index, entry in enumerate(truth):
            counts = self.counts[size_of(area(box_of(entry)))]
            counts.objects += 1
            counts.matched += index not in missed
        for index in wrong:
            self.counts[size_of(area(box_of(predicted[index])))].false += 1
        return missed, wrong

    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics by slice; slices with neither objects nor detections are left out."""
        return {
            f"size:{name}": counts.metrics() for name, counts in self.counts.items() if counts.objects or counts.false
        }


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
