"""Whether confidences can be taken at their word: of what has a confidence of 0.8, are 80 % right?

M. P. Naeini and others, Obtaining well calibrated probabilities using Bayesian binning, https://doi.org/10.1609/aaai.v29i1.9602, over the
detections of a detector (F. Küppers and others, https://arxiv.org/abs/2004.13546) or the likeliest classes of whole images.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from visionloop.components.evaluate.slicing import LEAST

#: The number of bins between 0 and 1, all of one width.
BINS = 20


class Bin(msgspec.Struct, frozen=True):
    """One bin.

    Attributes:
        lowest: The least confidence in it.
        highest: The confidence at which the next one begins.
        count: The number of predictions in it.
        confidence: Their mean confidence; None where they are fewer than LEAST.
        right: The share of them that is right; None as before.
    """

    lowest: float
    highest: float
    count: int
    confidence: float | None = None
    right: float | None = None


class Calibration(msgspec.Struct, frozen=True):
    """The calibration of a model.

    Attributes:
        error: The expected calibration error: how far the share of right predictions is from their mean confidence, the mean over
            the bins with LEAST predictions or more, by their counts; None where there is no such bin.
        counted: The number of predictions in these bins.
        bins: Those with a prediction, by confidence.
    """

    error: float | None
    counted: int
    bins: list[Bin]


def calibration(right: Sequence[float], wrong: Sequence[float], least: float = 0.0) -> Calibration | None:
    """Measures the calibration.

    Args:
        right: The confidences of right predictions.
        wrong: Those of wrong ones.
        least: The confidence from which on predictions count. A detector says thousands of things with hardly any confidence, which
            would hide all others in the error.

    Returns:
        None without a prediction of a finite confidence that counts.
    """
    confidences = np.concatenate([np.asarray(right, float), np.asarray(wrong, float)])
    hits = np.arange(len(confidences)) < len(right)
    counts = np.isfinite(confidences) & (confidences >= least) & (confidences <= 1)
    confidences, hits = confidences[counts], hits[counts]
    if not len(confidences):
        return None
    numbers = np.minimum((confidences * BINS).astype(int), BINS - 1)
    bins, gaps, weights = [], [], []
    for number in np.unique(numbers).tolist():
        own = numbers == number
        count, bounds = int(own.sum()), (number / BINS, (number + 1) / BINS)
        if count < LEAST:
            bins.append(Bin(*bounds, count))
            continue
        confidence, share = float(confidences[own].mean()), float(hits[own].mean())
        bins.append(Bin(*bounds, count, confidence, share))
        gaps.append(abs(share - confidence))
        weights.append(count)
    error = float(np.average(gaps, weights=weights)) if gaps else None
    return Calibration(error, sum(weights), bins)
