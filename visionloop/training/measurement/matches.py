"""Metrics of a split from detections that were matched with true objects once.

Images may count several times or not at all: a bootstrap measures a split a thousand times, and only the images' weights differ
between these, so neither a detection nor a match is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from visionloop.training.measurement import OBJECT_METRICS
from visionloop.training.trainers import ClassCurves

Array = NDArray[Any]

#: The overlaps from which on a detection matches an object, of COCO's mAP50-95; of single precision, as overlaps are.
THRESHOLDS = numpy.linspace(0.5, 0.95, 10, dtype=numpy.float32)

#: The recalls at which precision is read (COCO's), and the confidences of the curves of precision and recall.
RECALLS = numpy.linspace(0, 1, 101)
CONFIDENCES = numpy.linspace(0, 1, 1000)

#: Those of `CONFIDENCES` that a class's curves are given at, evenly spaced.
CURVE_POINTS = numpy.linspace(0, len(CONFIDENCES) - 1, 101).round().astype(int)

#: The share of `CONFIDENCES` over which F1 is smoothed before its largest value is looked for.
SMOOTHING = 0.1


@dataclass(frozen=True)
class ClassMatches:
    """One class: its D detections, the most confident first, and its true objects.

    Attributes:
        image: The image of each detection, D integers.
        confidence: D numbers.
        right: Whether a detection matches a true object at the first of `THRESHOLDS`, D.
        some: The detections that are right at a threshold or more, U indices into D.
        thresholds: Whether each of these is right at each threshold, U × 10.
        objects: The image of each true object, of which there is at least one.
        above: For each of `CONFIDENCES` the number of detections that are at least as confident.
    """

    image: Array
    confidence: Array
    right: Array
    some: Array
    thresholds: Array
    objects: Array
    above: Array


class Matches:
    """A split's detections and true objects, matched once.

    Attributes:
        images: The number of images.
        classes: The matches of each class with a true object, by its index.
    """

    def __init__(
        self,
        detections: Sequence[int] | Array,
        confidence: Array,
        predicted: Array,
        right: Array,
        objects: Sequence[int] | Array,
        true: Array,
    ) -> None:
        """Sorts by class and confidence.

        Args:
            detections: The number of detections in each image.
            confidence: The confidence of each detection, image after image.
            predicted: Its class.
            right: Its matches as `packed` gives them.
            objects: The number of true objects in each image.
            true: The class of each true object, image after image.
        """
        self.images = len(detections)
        numbers = numpy.arange(self.images, dtype=numpy.int32)
        image, of_object = numpy.repeat(numbers, detections), numpy.repeat(numbers, objects)
        # The Ultralytics library sorts in this way, and equal confidences are to come in its order.
        order = numpy.argsort(-confidence)
        order = order[numpy.argsort(predicted[order], kind="stable")]
        image, confidence, predicted, right = image[order], confidence[order], predicted[order], right[order]
        self.classes: dict[int, ClassMatches] = {}
        for index in numpy.unique(true).tolist():
            own = slice(*(numpy.searchsorted(predicted, index, side) for side in ("left", "right")))
            some = numpy.flatnonzero(right[own])
            self.classes[int(index)] = ClassMatches(
                image=image[own],
                confidence=confidence[own],
                right=(right[own] & 1).astype(bool),
                some=some,
                thresholds=unpacked(right[own][some]),
                objects=of_object[true == index],
                above=numpy.searchsorted(-confidence[own].astype(float), -CONFIDENCES, side="right"),
            )

    def metric(self, name: str, weights: Array) -> float | None:
        """A metric over all classes, where image i counts ``weights[i]`` times.

        Args:
            name: ``mAP50``, ``mAP50-95``, ``precision`` or ``recall``.
            weights: A whole number for each image, in the order of the matches.

        Returns:
            The metric; None for another name, and where no image with an object counts.
        """
        present = [(own, total) for own in self.classes.values() if (total := int(weights[own.objects].sum()))]
        if not present:
            return None
        if name in ("mAP50", "mAP50-95"):
            thresholds = 1 if name == "mAP50" else None
            return float(numpy.mean([average_precision(*of_class, weights, thresholds) for of_class in present]))
        if name in ("precision", "recall"):
            precision, recall = at_best_confidence([curves(*of_class, weights) for of_class in present])
            return float((precision if name == "precision" else recall).mean())
        return None

    def per_class(self) -> dict[int, dict[str, float]]:
        """Every metric of each class with a true object, by its index, where each image counts once."""
        once = numpy.ones(self.images, int)
        present = {index: (own, len(own.objects), once) for index, own in self.classes.items()}
        if not present:
            return {}
        precision, recall = at_best_confidence([curves(*of_class) for of_class in present.values()])
        rows = (
            (at_precision, at_recall, average_precision(*of_class, 1), average_precision(*of_class))
            for at_precision, at_recall, of_class in zip(precision, recall, present.values(), strict=True)
        )
        return {
            index: dict(zip(OBJECT_METRICS, map(float, row), strict=True))
            for index, row in zip(present, rows, strict=True)
        }

    def class_curves(self) -> dict[int, ClassCurves]:
        """Precision by recall and F1 by confidence of each class with a true object, by its index, at `CURVE_POINTS`."""
        once = numpy.ones(self.images, int)
        return {
            index: ClassCurves(
                precision_at(CONFIDENCES[CURVE_POINTS], own, len(own.objects), once).tolist(),
                harmonic(*curves(own, len(own.objects), once))[CURVE_POINTS].tolist(),
            )
            for index, own in self.classes.items()
        }


def resampled(matches: Mapping[str, Matches], name: str, weights: Array) -> float | None:
    """A metric where image i counts ``weights[i]`` times; None for one that is not measured so.

    Args:
        matches: The matches by the prefix of their metrics' names.
        name: A metric's name, with its prefix.
        weights: A whole number for each image, in the order of the matches.
    """
    for prefix in sorted(matches, key=len, reverse=True):
        if name.startswith(prefix):
            return matches[prefix].metric(name.removeprefix(prefix), weights)
    return None


def packed(right: Array) -> Array:
    """Whether D detections are right at each of `THRESHOLDS`, D × 10, as D whole numbers: the lowest bit is the first."""
    return numpy.packbits(right, axis=1, bitorder="little").view("<u2")[:, 0]


def unpacked(right: Array) -> Array:
    """The D × 10 truth values that `packed` made D whole numbers of."""
    return (right[:, None] >> numpy.arange(len(THRESHOLDS)) & 1).astype(bool)


def average_precision(matches: ClassMatches, objects: int, weights: Array, thresholds: int | None = None) -> float:
    """The average precision of a class, averaged over the first IoU thresholds (None for all of them).

    It is the area under the precision-recall curve by COCO's 101 points, as the Ultralytics library computes it
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
    hits, highest = _envelope(matches, weights, thresholds)
    # The number of points below each recall: those from the one before to it have its precision.
    points = numpy.searchsorted(RECALLS, hits / objects)
    widths = numpy.diff(points, axis=0, prepend=0)
    areas = (highest * widths).sum(axis=0) - highest[0] / 2  # the first point is half as wide
    return float(areas.mean() / (len(RECALLS) - 1))


def precision_at(recalls: Array, matches: ClassMatches, objects: int, weights: Array) -> Array:
    """Precision of a class at R recalls and the first IoU threshold; the other arguments are those of `average_precision`."""
    if not len(matches.some):
        return numpy.zeros(len(recalls))
    hits, highest = _envelope(matches, weights, 1)
    higher = numpy.searchsorted(hits[:, 0] / objects, recalls, side="right")
    return numpy.append(highest[:, 0], 0)[higher]


def _envelope(matches: ClassMatches, weights: Array, thresholds: int | None) -> tuple[Array, Array]:
    """The objects that are found down to each detection of ``some``, and the largest precision from it on, U × T each."""
    # Detections that are wrong at every threshold count, but the curve has no step there: they are summed between the others.
    after = numpy.concatenate([[0], matches.some[:-1] + 1])
    detections = numpy.cumsum(numpy.add.reduceat(weights[matches.image[: matches.some[-1] + 1]], after))
    right = matches.thresholds[:, :thresholds]
    hits = numpy.cumsum(weights[matches.image[matches.some], None] * right, axis=0)
    return hits, numpy.maximum.accumulate((hits / numpy.maximum(detections, 1)[:, None])[::-1], axis=0)[::-1]


def curves(matches: ClassMatches, objects: int, weights: Array) -> tuple[Array, Array]:
    """Precision and recall of a class at `CONFIDENCES` and the first IoU threshold.

    They are those of the Ultralytics library (``ap_per_class``). The arguments are those of `average_precision`.
    """
    counts = weights[matches.image]
    positions = numpy.flatnonzero(counts)
    if not len(positions):
        return numpy.zeros_like(CONFIDENCES), numpy.zeros_like(CONFIDENCES)
    right = matches.right
    hits, detections = numpy.cumsum(counts * right), numpy.cumsum(counts)
    # Each confidence lies between two detections that count. The library joins the last copy of the one before with the first
    # copy of the one behind by a line.
    number = numpy.searchsorted(positions, matches.above)
    before, behind = positions[number - 1], positions[numpy.minimum(number, len(positions) - 1)]
    first_hits = hits[behind] - (counts[behind] - 1) * right[behind]
    first_detections = detections[behind] - counts[behind] + 1
    upper, lower = matches.confidence[before].astype(float), matches.confidence[behind].astype(float)
    gap = upper - lower
    share = numpy.where(number < len(positions), (upper - CONFIDENCES) / numpy.where(gap, gap, 1), 0)

    def joined(start: Array, end: Array, highest: float) -> Array:
        return numpy.where(number == 0, highest, start + share * (end - start))

    return (
        joined(hits[before] / detections[before], first_hits / first_detections, 1.0),
        joined(hits[before] / objects, first_hits / objects, 0.0),
    )


def at_best_confidence(classes: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Precision and recall of each class at the confidence whose smoothed mean F1 is largest, as the library chooses it.

    Args:
        classes: Precision and recall of each class at `CONFIDENCES`.
    """
    precision, recall = (numpy.array(rows) for rows in zip(*classes, strict=True))
    best = smoothed(harmonic(precision, recall).mean(axis=0), SMOOTHING).argmax()
    return precision[:, best], recall[:, best]


def harmonic(precision: Array, recall: Array) -> Array:
    """F1, the harmonic mean of precision and recall; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall + 1e-16)


def smoothed(values: Array, share: float) -> Array:
    """The mean of each value and its neighbours, N values: a box filter over a share of them, with the first and last repeated."""
    side = round(len(values) * share) // 2
    width = 2 * side + 1
    return numpy.convolve(numpy.pad(values, side, mode="edge"), numpy.full(width, 1 / width), mode="valid")
