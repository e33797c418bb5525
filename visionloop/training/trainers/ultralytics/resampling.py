"""The library's metrics of a split whose images count several times or not at all, from matches that were made once.

A bootstrap measures a split a thousand times. Only the images' weights differ between these, so neither a detection nor a
match is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

Array = NDArray[Any]

#: The recalls at which precision is read (COCO's), and the confidences of the library's curves of precision and recall.
RECALLS = numpy.linspace(0, 1, 101)
CONFIDENCES = numpy.linspace(0, 1, 1000)


@dataclass(frozen=True)
class ClassMatches:
    """One class: its D detections, the most confident first, and its true objects.

    Attributes:
        image: The image of each detection, D integers.
        confidence: D numbers.
        right: Whether a detection matches a true object at each of T IoU thresholds, D × T.
        some: The detections that are right at a threshold or more, U indices into D.
        objects: The number of true objects in each image.
        above: For each of `CONFIDENCES` the number of detections that are at least as confident.
    """

    image: Array
    confidence: Array
    right: Array
    some: Array
    objects: Array
    above: Array


class Matches:
    """A split's detections and true objects, matched once."""

    def __init__(self, stats: Mapping[str, Sequence[Array]], name: str = "tp") -> None:
        """``stats`` is the library's ``DetMetrics.stats``: one array an image of conf, pred_cls, target_cls and what is right, ``name``."""
        self.images = len(stats[name])
        right, confidence, predicted, true = (
            numpy.concatenate(stats[column]) for column in (name, "conf", "pred_cls", "target_cls")
        )
        image = numpy.repeat(numpy.arange(self.images), [len(rows) for rows in stats[name]])
        of_object = numpy.repeat(numpy.arange(self.images), [len(rows) for rows in stats["target_cls"]])
        # As the library sorts, so that equal confidences come in its order.
        order = numpy.argsort(-confidence)
        right, confidence, predicted, image = right[order], confidence[order], predicted[order], image[order]
        self.classes = []
        for index in numpy.unique(true):
            own = predicted == index
            objects = numpy.bincount(of_object[true == index], minlength=self.images)
            some = numpy.flatnonzero(right[own].any(axis=1))
            falling = confidence[own].astype(float)
            above = numpy.searchsorted(-falling, -CONFIDENCES, side="right")
            self.classes.append(ClassMatches(image[own], falling, right[own], some, objects, above))

    def metric(self, name: str, weights: Array) -> float | None:
        """A metric over all classes, where image i counts ``weights[i]`` times.

        Args:
            name: ``mAP50``, ``mAP50-95``, ``precision`` or ``recall``.
            weights: A whole number for each image, in the order of the matches.

        Returns:
            The metric as the library defines it; None for another name, and where no image with an object counts.
        """
        present = [(matches, total) for matches in self.classes if (total := int(matches.objects @ weights))]
        if not present:
            return None
        if name in ("mAP50", "mAP50-95"):
            thresholds = 1 if name == "mAP50" else None
            return float(numpy.mean([average_precision(*one, weights, thresholds) for one in present]))
        if name in ("precision", "recall"):
            precision, recall = best_point([curves(*one, weights) for one in present])
            return precision if name == "precision" else recall
        return None


def average_precision(matches: ClassMatches, objects: int, weights: Array, thresholds: int | None = None) -> float:
    """The average precision of a class, averaged over the first IoU thresholds (None for all of them).

    It is the area under the precision-recall curve by COCO's 101 points, as the library computes it
    (``ultralytics.utils.metrics.compute_ap``): precision at a recall is the largest precision at any higher recall, and 0 beyond
    the last one; the points are joined by the trapezoidal rule. A detection in an image of weight w counts w times, at once:
    between these equal detections precision only rises, so the curve is that of the repeated images.

    Args:
        matches: The class's matches.
        objects: The number of its true objects, above 0; an object counts as often as its image.
        weights: How often each image counts.
        thresholds: The number of IoU thresholds.
    """
    if not len(matches.some):
        return 0.0
    # Detections that are wrong at every threshold count, but the curve has no step there: they are summed between the others.
    after = numpy.concatenate([[0], matches.some[:-1] + 1])
    detections = numpy.cumsum(numpy.add.reduceat(weights[matches.image[: matches.some[-1] + 1]], after))
    right = matches.right[matches.some, :thresholds]
    hits = numpy.cumsum(weights[matches.image[matches.some], None] * right, axis=0)
    highest = numpy.maximum.accumulate((hits / numpy.maximum(detections, 1)[:, None])[::-1], axis=0)[::-1]
    # The number of points below each recall: those from the one before to it have its precision.
    points = numpy.searchsorted(RECALLS, hits / objects)
    widths = numpy.diff(points, axis=0, prepend=0)
    areas = (highest * widths).sum(axis=0) - highest[0] / 2  # the first point is half as wide
    return float(areas.mean() / (len(RECALLS) - 1))


def curves(matches: ClassMatches, objects: int, weights: Array) -> tuple[Array, Array]:
    """Precision and recall of a class at `CONFIDENCES` and the first IoU threshold, as ``ap_per_class`` of the library has them.

    The arguments are those of `average_precision`.
    """
    counts = weights[matches.image]
    positions = numpy.flatnonzero(counts)
    if not len(positions):
        return numpy.zeros_like(CONFIDENCES), numpy.zeros_like(CONFIDENCES)
    right = matches.right[:, 0]
    hits, detections = numpy.cumsum(counts * right), numpy.cumsum(counts)
    # Each confidence lies between two detections that count. The library joins the last copy of the one before with the first
    # copy of the one behind by a line.
    number = numpy.searchsorted(positions, matches.above)
    before, behind = positions[number - 1], positions[numpy.minimum(number, len(positions) - 1)]
    first_hits = hits[behind] - (counts[behind] - 1) * right[behind]
    first_detections = detections[behind] - counts[behind] + 1
    gap = matches.confidence[before] - matches.confidence[behind]
    share = numpy.where(
        number < len(positions), (matches.confidence[before] - CONFIDENCES) / numpy.where(gap, gap, 1), 0
    )

    def joined(start: Array, end: Array, highest: float) -> Array:
        return numpy.where(number == 0, highest, start + share * (end - start))

    return (
        joined(hits[before] / detections[before], first_hits / first_detections, 1.0),
        joined(hits[before] / objects, first_hits / objects, 0.0),
    )


def best_point(classes: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Mean precision and recall of classes at the confidence whose smoothed mean F1 is largest, as the library chooses it."""
    from visionloop.training.trainers.ultralytics.environment import library

    precision, recall = (numpy.array(rows) for rows in zip(*classes, strict=True))
    harmonic = (2 * precision * recall / (precision + recall + 1e-16)).mean(axis=0)
    best = library().utils.metrics.smooth(harmonic, 0.1).argmax()
    return float(precision[:, best].mean()), float(recall[:, best].mean())
