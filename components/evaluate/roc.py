"""How well a detector's confidence tells its right detections from its wrong ones: a ROC curve over the detections.

An image has no countable places without an object, so a detector has no true negatives among them. Over what it did detect
the curve is defined: a detection of any class is right or wrong (`visionloop.components.trainers.Evaluation`), and its
confidence is the score (T. Fawcett, An introduction to ROC analysis, https://doi.org/10.1016/j.patrec.2005.10.010). Missed
objects are no part of it: recall tells of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

#: Points of a curve at most: an engine keeps each of them in the artifact's metadata.
POINTS = 100


class Curve(msgspec.Struct, frozen=True):
    """``roc.json``: a curve from (0, 0) to (1, 1).

    Attributes:
        fpr: False positive rate: the share of the wrong detections whose confidence is at least the threshold.
        tpr: True positive rate: the share of the right ones.
        threshold: Confidences, all finite; the first is just above the highest one.
        area: The area under the whole curve: the chance that a right detection is more confident than a wrong one.
        right: The right detections.
        wrong: The wrong ones.
    """

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]
    area: float
    right: int
    wrong: int


def curve(right: Sequence[float], wrong: Sequence[float]) -> Curve | None:
    """The curve of the confidences of right and of wrong detections; None unless there are some of both."""
    hits, misses = (Counter(float(one) for one in found if math.isfinite(one)) for found in (right, wrong))
    positives, negatives = hits.total(), misses.total()
    if not positives or not negatives:
        return None
    confidences = sorted({*hits, *misses}, reverse=True)
    points = [(0.0, 0.0, math.nextafter(confidences[0], math.inf))]
    true = false = 0
    area = 0.0
    for confidence in confidences:
        true, false = true + hits[confidence], false + misses[confidence]
        point = (false / negatives, true / positives, confidence)
        area += (point[0] - points[-1][0]) * (point[1] + points[-1][1]) / 2
        points.append(point)
    last = len(points) - 1
    count = min(POINTS, len(points))
    fpr, tpr, threshold = zip(*(points[round(number * last / (count - 1))] for number in range(count)), strict=True)
    return Curve(list(fpr), list(tpr), list(threshold), area, positives, negatives)
