"""How far a metric would move on other images of the same kind: a bootstrap over the images of the split.

B. Efron, Bootstrap methods: another look at the jackknife, https://doi.org/10.1214/aos/1176344552; the interval is that of the
percentiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy

from visionloop.training.trainers import Evaluation

#: The number of samples, the seed that draws them, and the share of them that lies in the interval, in percent.
SAMPLES = 1000
SEED = 0
LEVEL = 95

#: The width from which the split is called too small to decide.
WIDE = 0.2


def interval(
    evaluation: Evaluation, metric: str, alive: Callable[[], None] = lambda: None
) -> tuple[float, float] | None:
    """Returns the bounds between which 95 % of the samples' metrics lie.

    Args:
        evaluation: The evaluation, with the trainer's own way to measure a sample.
        metric: The metric.
        alive: Called for each sample, as a sign of life.

    Returns:
        Lower and upper bound; None where the metric is not measured, the trainer measures no samples of it, or there are fewer
        than two images to draw from.
    """
    if evaluation.resampled is None or metric not in evaluation.metrics or evaluation.images < 2:
        return None
    generator = numpy.random.default_rng(SEED)
    values = []
    for _ in range(SAMPLES):
        drawn = generator.integers(0, evaluation.images, evaluation.images)
        value = evaluation.resampled(metric, numpy.bincount(drawn, minlength=evaluation.images))
        if value is not None:
            values.append(value)
        alive()
    if not values:
        return None
    low, high = numpy.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def with_doubt(reason: str, metric: str, bounds: tuple[float, float] | None, images: int) -> str:
    """Returns the verdict's reason, which ends with how wide the interval is if the split is too small to decide."""
    if bounds is not None and bounds[1] - bounds[0] > WIDE:
        doubt = f"on {images} images {metric} may as well be anything from {bounds[0]:.2f} to {bounds[1]:.2f}"
    elif images == 1:
        doubt = "it has 1 image"
    else:
        return reason
    return f"{reason.removesuffix('.')}; the test split is small: {doubt}."
