"""The measurement of classification: whole images, each of one true class."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from visionloop.training.measurement import WITHIN
from visionloop.training.measurement.matches import Matches
from visionloop.training.trainers import ClassCurves, Evaluation


class ImageMeasurement:
    """What was found in the images of a split, batch after batch.

    Attributes:
        ranks: By image how many classes were found likelier than the true one; of equally likely ones the first comes first.
        true: By image the true class.
        likeliest: By image the likeliest class.
        confidence: By image the score of the likeliest class.
    """

    def __init__(self, classes: Sequence[str], split: str) -> None:
        """Takes the class names by index and the split's name, which the reasons for what is not measured name."""
        self.classes, self.split = tuple(classes), split
        self.ranks, self.true, self.likeliest, self.confidence = array("l"), array("l"), array("l"), array("d")

    def add(self, scores: ArrayLike, true: ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: The probability of each class, N × C.
            true: The true classes, N whole numbers.

        Raises:
            ValueError: If there is not one score for each class and one true class for each image.
        """
        scores, true = numpy.asarray(scores), numpy.asarray(true).astype(int)
        if scores.shape != (len(true), len(self.classes)):
            raise ValueError(f"scores of shape {scores.shape}, not {(len(true), len(self.classes))}")
        if ((true < 0) | (true >= len(self.classes))).any():
            raise ValueError(f"true classes from {true.min()} to {true.max()}, of {len(self.classes)} classes")
        order = numpy.argsort(-scores, axis=1, kind="stable")
        self.ranks.extend((order == true[:, None]).argmax(axis=1).tolist())
        self.true.extend(true.tolist())
        self.likeliest.extend(order[:, 0].tolist())
        self.confidence.extend(scores.max(axis=1).tolist())

    def metrics(self) -> dict[str, float]:
        """The share of images whose true class is the likeliest, and is among the five likeliest; empty without an image."""
        return _accuracies(numpy.array(self.ranks)) if self.ranks else {}

    def evaluation(self) -> Evaluation:
        """Everything that is measured: over all, and by the true class; the confusion matrix is C × C."""
        ranks, true = numpy.array(self.ranks, int), numpy.array(self.true, int)
        confidence, right = numpy.array(self.confidence), ranks == 0
        confusion = numpy.zeros((len(self.classes), len(self.classes)), int)
        numpy.add.at(confusion, (numpy.array(self.likeliest, int), true), 1)
        per_class = {self.classes[index]: _accuracies(ranks[true == index]) for index in numpy.unique(true).tolist()}
        absent = dict.fromkeys(WITHIN, f"the split {self.split} has no image of this class")
        return Evaluation(
            metrics=self.metrics(),
            per_class=per_class,
            images=len(ranks),
            confusion=confusion.tolist(),
            right=array("d", confidence[right]),
            wrong=array("d", confidence[~right]),
            not_measured={} if len(ranks) else dict.fromkeys(WITHIN, f"the split {self.split} has no image"),
            not_measured_per_class={name: absent for name in self.classes if name not in per_class},
            classes=self.classes,
            resampled=self.resampled,
            curves=self._curves(ranks == 0, true),
        )

    def _curves(self, right: NDArray[Any], true: NDArray[Any]) -> dict[str, ClassCurves]:
        """Curves of each class with an image, where an image's likeliest class is the one thing that is found in it."""
        once = numpy.ones(len(true), int)
        bits = right.astype(numpy.uint16)  # an answer is right at the first threshold or not at all
        found = Matches(once, numpy.array(self.confidence), numpy.array(self.likeliest, int), bits, once, true)
        return {self.classes[index]: curves for index, curves in found.class_curves().items()}

    def resampled(self, name: str, weights: NDArray[Any]) -> float | None:
        """A metric where image i counts ``weights[i]`` times; None for one that is not measured, and without an image that counts."""
        within = WITHIN.get(name)
        total = int(weights.sum())
        return None if within is None or not total else float((numpy.array(self.ranks) < within) @ weights / total)


def _accuracies(ranks: NDArray[Any]) -> dict[str, float]:
    """Accuracies of images by their ranks, of which there is at least one."""
    return {name: float((ranks < within).mean()) for name, within in WITHIN.items()}
