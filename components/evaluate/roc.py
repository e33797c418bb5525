"""How well a detector's confidence separates its right detections from its wrong ones: a ROC curve over the detections.

An image has no countable places without an object, so a detector has no true negatives. The curve is defined over its
detections: a detection of any class is right or wrong (`visionloop.training.trainers.Evaluation`), and its
confidence is the score (T. Fawcett, An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010). Missed
objects are not part of it: recall measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy

#: The largest number of points of a curve: an engine keeps each of them in the artifact's metadata.
POINTS = 100


class Curve(msgspec.Struct, frozen=True):
    """``roc.json``: a curve from (0, 0) to (1, 1).

    Attributes:
        fpr: False positive rate: the share of the wrong detections whose confidence is at least the threshold.
        tpr: True positive rate: the share of the right ones.
        threshold: Confidences, all finite; the first is just above the highest one.
        area: The area under the whole curve: the chance that a right detection is more confident than a wrong one.
        right: The number of right detections.
        wrong: The number of wrong ones.
    """

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]
    area: float
    right: int
    wrong: int


def curve(right: Sequence[float], wrong: Sequence[float]) -> Curve | None:
    """Returns the curve for the confidences of right and wrong detections; None unless there are some of both."""
    hits, misses = (numpy.asarray(values, dtype=float) for values in (right, wrong))
    hits, misses = hits[numpy.isfinite(hits)], misses[numpy.isfinite(misses)]
    if not hits.size or not misses.size:
        return None
    confidences = numpy.unique(numpy.concatenate([hits, misses]))[::-1]
    # The share of each that is at least as confident, from 0 above the highest confidence to 1.
    tpr, fpr = (
        numpy.concatenate([[0.0], (scores.size - numpy.searchsorted(numpy.sort(scores), confidences)) / scores.size])
        for scores in (hits, misses)
    )
    area = float(numpy.sum(numpy.diff(fpr) * (tpr[1:] + tpr[:-1])) / 2)
    threshold = numpy.concatenate([[numpy.nextafter(confidences[0], numpy.inf)], confidences])
    shown = numpy.unique(numpy.linspace(0, threshold.size - 1, min(POINTS, threshold.size)).round().astype(int))
    return Curve(fpr[shown].tolist(), tpr[shown].tolist(), threshold[shown].tolist(), area, hits.size, misses.size)
