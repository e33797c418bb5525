"""The gate's conditions beside floor and epsilon: what must hold before a model may take the champion's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from visionloop.components.evaluate.gate import Gate
from visionloop.components.evaluate.interval import LEVEL, difference
from visionloop.data.annotations.split import listed
from visionloop.training.trainers import Evaluation

#: Differences of floating-point numbers that are no differences.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """What became of a gate's conditions.

    Attributes:
        unmet: A clause for each one that is not met or can't be measured.
        difference: The bounds of candidate minus champion in 95 % of the samples of a paired bootstrap; None where it was not
            asked for or can't be measured.
    """

    unmet: tuple[str, ...] = ()
    difference: tuple[float, float] | None = None


def examine(
    gate: Gate,
    candidate: Evaluation,
    champion: Evaluation | None,
    objects: Mapping[str, int],
    size: int,
    milliseconds: float,
    alive: Callable[[], None] = lambda: None,
) -> Outcome:
    """Measures each condition that the gate names.

    Args:
        gate: The gate.
        candidate: The candidate on the images that decide.
        champion: A comparable champion on the same images; None without one: what compares with it is passed over then.
        objects: The number of true objects on these images by class name.
        size: The bytes of the candidate's file.
        milliseconds: What the candidate takes for one image, the median.
        alive: Called for each sample, as a sign of life.
    """
    unmet = [*_too_few(gate, candidate.images, objects), *_too_large(gate, size), *_too_slow(gate, milliseconds)]
    if champion is None:
        return Outcome(tuple(unmet))
    unmet += _worse_classes(gate, candidate, champion)
    if gate.evidence in (None, "point"):
        return Outcome(tuple(unmet))
    bounds = difference(candidate, champion, gate.primary_metric, alive)
    if bounds is None:
        unmet.append(
            f"evidence is {gate.evidence}, and the trainers of the two models measure no samples of {gate.primary_metric} "
            "on the same images"
        )
        return Outcome(tuple(unmet))
    least = bounds[0] if gate.primary_metric_mode == "max" else -bounds[1]
    wanted = 0.0 if gate.evidence == "better" else -gate.epsilon
    if least <= wanted:
        doubt = "no better than the champion's" if gate.evidence == "better" or not gate.epsilon else "worse by epsilon"
        unmet.append(
            f"it may be {doubt}: the difference lies between {bounds[0]:+.4f} and {bounds[1]:+.4f} in {LEVEL} % of the "
            f"samples (evidence {gate.evidence})"
        )
    return Outcome(tuple(unmet), bounds)


def _too_few(gate: Gate, images: int, objects: Mapping[str, int]) -> list[str]:
    unmet = []
    if gate.min_images is not None and images < gate.min_images:
        decide = "1 image decides" if images == 1 else f"{images:,} images decide"
        unmet.append(f"{decide}, fewer than {gate.min_images:,} (min_images)")
    if gate.min_objects is not None:
        few = [f"{name} has {number:,}" for name, number in objects.items() if number < gate.min_objects]
        if few:
            unmet.append(f"{listed(few)} true objects, fewer than {gate.min_objects:,} (min_objects)")
    return unmet


def _too_large(gate: Gate, size: int) -> list[str]:
    megabytes = size / 1e6
    if gate.max_size_mb is None or megabytes <= gate.max_size_mb:
        return []
    return [f"its file has {megabytes:.4g} MB, more than {gate.max_size_mb:g} (max_size_mb)"]


def _too_slow(gate: Gate, milliseconds: float) -> list[str]:
    """Whether it takes too long, without the time itself: what is measured is no part of a result."""
    if gate.max_latency_ms is None or milliseconds <= gate.max_latency_ms:
        return []
    return [f"one image takes it more than {gate.max_latency_ms:g} ms (max_latency_ms)"]


def _worse_classes(gate: Gate, candidate: Evaluation, champion: Evaluation) -> list[str]:
    """The classes that lost more than the gate allows; one that neither model is measured on lost nothing."""
    if gate.max_class_drop is None:
        return []
    metric, sign = gate.primary_metric, 1 if gate.primary_metric_mode == "max" else -1
    theirs = {name: values[metric] for name, values in champion.per_class.items() if metric in values}
    if not theirs:
        return [f"no class has {metric}, so max_class_drop can't be measured"]
    worse = []
    for name, value in theirs.items():
        own = candidate.per_class.get(name, {}).get(metric)
        if own is None:
            worse.append(f"{name} is not measured")
        elif sign * (value - own) > gate.max_class_drop + TOLERANCE:
            worse.append(f"{name} has {own:.4g}, and the champion {value:.4g}")
    return [f"{listed(worse)}: worse than max_class_drop {gate.max_class_drop:g} allows"] if worse else []
