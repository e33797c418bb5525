"""How far a metric would move on other images of the same kind: a bootstrap over the images of the split.

B. Efron, Bootstrap methods: another look at the jackknife, https://doi.org/10.1214/aos/1176344552; the interval is that of the
percentiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

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
    if not _has_samples(evaluation, metric):
        return None
    values = []
    for weights in _samples(evaluation.images, alive):
        value = evaluation.resampled(metric, weights) if evaluation.resampled else None
        if value is not None and numpy.isfinite(value):
            values.append(value)
    return _bounds(values)


def difference(
    candidate: Evaluation, champion: Evaluation, metric: str, alive: Callable[[], None] = lambda: None
) -> tuple[float, float] | None:
    """Returns the bounds between which 95 % of the samples' differences lie, candidate minus champion: a paired bootstrap.

    Both are measured on the same drawn images, so what makes an image hard for both is in no difference.

    Args:
        candidate: Its evaluation, with the files of its images.
        champion: That of the champion on the same images, in any order.
        metric: The metric.
        alive: Called for each sample, as a sign of life.

    Returns:
        Lower and upper bound; None where a model's trainer measures no samples of the metric or does not name its images, or
        the images are not the same.
    """
    both = candidate, champion
    if not all(_has_samples(each, metric) and len(each.files) == each.images for each in both):
        return None
    if sorted(candidate.files) != sorted(champion.files):
        return None
    position = {file: number for number, file in enumerate(candidate.files)}
    order = numpy.array([position[file] for file in champion.files])
    values = []
    for weights in _samples(candidate.images, alive):
        own = candidate.resampled(metric, weights) if candidate.resampled else None
        theirs = champion.resampled(metric, weights[order]) if champion.resampled else None
        if own is not None and theirs is not None and numpy.isfinite(own - theirs):
            values.append(own - theirs)
    return _bounds(values)


def _has_samples(evaluation: Evaluation, metric: str) -> bool:
    return evaluation.resampled is not None and metric in evaluation.metrics and evaluation.images > 1


def _samples(images: int, alive: Callable[[], None]) -> Iterator[NDArray[Any]]:
    """How often each of N images is drawn, in each sample."""
    generator = numpy.random.default_rng(SEED)
    for _ in range(SAMPLES):
        yield numpy.bincount(generator.integers(0, images, images), minlength=images)
        alive()


def _bounds(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = numpy.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def with_difference(reason: str, bounds: tuple[float, float] | None) -> str:
    """Returns the verdict's reason, which ends with the interval of the difference unless it stands in it already."""
    if bounds is None or "the difference lies between" in reason:
        return reason
    lies = f"the difference lies between {bounds[0]:+.4f} and {bounds[1]:+.4f} in {LEVEL} % of the samples"
    return f"{reason.removesuffix('.')}; {lies}."


def with_doubt(reason: str, metric: str, bounds: tuple[float, float] | None, images: int) -> str:
    """Returns the verdict's reason, which ends with how wide the interval is if the split is too small to decide."""
    if bounds is not None and bounds[1] - bounds[0] > WIDE:
        doubt = f"on {images} images {metric} may as well be anything from {bounds[0]:.2f} to {bounds[1]:.2f}"
    elif images == 1:
        doubt = "it has 1 image"
    else:
        return reason
    return f"{reason.removesuffix('.')}; the test split is small: {doubt}."
