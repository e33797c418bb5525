"""The gate: what a model must reach, and how much worse than the champion it may be (docs/contract.md, "Gate")."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from visionloop.core.errors import InvalidConfig
from visionloop.core.stores import normalise_uri
from visionloop.training.configuration.option_file import read_option, read_option_file
from visionloop.training.measurement import metric_range

Mode = Literal["max", "min"]
#: ``none`` is that of a model that is only measured.
Verdict = Literal["promote", "keep", "reject", "none"]
Evidence = Literal["point", "not_worse", "better"]

#: The share of the compared images that the champion may have been trained on.
MAX_SEEN = 0.5


class GateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``--gate``, JSON or YAML; every field is optional."""

    floor: float | None = None
    epsilon: float | None = None
    primary_metric: str | None = None
    primary_metric_mode: Mode | None = None
    incomparable: Literal["keep", "promote", "shared"] | None = None
    min_images: int | None = None
    min_objects: int | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    max_class_drop: float | None = None
    evidence: Evidence | None = None
    max_seen: float | None = None
    must_pass: str | None = None


#: The fields that are part of the key where the file has them: one that is absent changes no key.
CONDITIONS = (
    "min_images",
    "min_objects",
    "max_size_mb",
    "max_latency_ms",
    "max_class_drop",
    "evidence",
    "max_seen",
    "must_pass",
)


@dataclass(frozen=True)
class Gate:
    """A resolved gate.

    Attributes:
        primary_metric: The metric that decides.
        primary_metric_mode: ``max`` where more is better, ``min`` where less is.
        floor: The least (``max``) or greatest (``min``) value of the metric that passes. None lets every value pass, but a
            0 where more is better promotes nobody.
        epsilon: How much worse than the champion the metric may be, 0 or more.
        incomparable: The verdict when the champion can't be evaluated on this dataset: ``keep`` leaves the decision to a
            person, ``promote`` replaces the champion. ``shared`` compares a champion of other classes on those of both, and is
            ``keep`` where there are none, or the champion can't be evaluated for another reason.
        max_class_drop: How much worse than the champion's the metric of a class may be, 0 or more.
        min_images: The least number of images that decide.
        min_objects: The least number of true objects of each class on these images; of a classification of its images.
        max_size_mb: The most megabytes (10⁶ bytes) that the model's file may have.
        max_latency_ms: The most milliseconds that the model may take for one image, by the median, where it is evaluated.
        evidence: ``point`` compares two numbers; ``not_worse`` and ``better`` want 95 % of the samples of a paired bootstrap to
            be above -epsilon and above 0.
        max_seen: The largest share of the images that the champion may have been trained on: they are left out of the comparison.
        must_pass: The URI of a list of images on which the model must be right (``components.evaluate.must_pass``); in a key the
            digest of what the list says.
    """

    primary_metric: str
    primary_metric_mode: Mode
    floor: float | None
    epsilon: float
    incomparable: Literal["keep", "promote", "shared"]
    max_class_drop: float | None = None
    min_images: int | None = None
    min_objects: int | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    evidence: Evidence | None = None
    max_seen: float | None = None
    must_pass: str | None = None

    def content(self) -> dict[str, Any]:
        """The gate's content, as it is part of the key."""
        return {
            "primary_metric": self.primary_metric,
            "primary_metric_mode": self.primary_metric_mode,
            "floor": self.floor,
            "epsilon": self.epsilon,
            "incomparable": self.incomparable,
            **{name: value for name in CONDITIONS if (value := getattr(self, name)) is not None},
        }

    def reaches_floor(self, value: float) -> bool:
        """Whether a value reaches the floor."""
        if self.floor is None:
            return True
        return value >= self.floor if self.primary_metric_mode == "max" else value <= self.floor

    def beats(self, value: float, champion: float) -> bool:
        """Whether a value is better, strictly, than the champion's made worse by epsilon: with epsilon 0 a tie does not."""
        if self.primary_metric_mode == "max":
            return value > champion - self.epsilon
        return value < champion + self.epsilon


def resolve_gate(gate: str | None, primary_metric: str, mode: str, metrics: Collection[str] = ()) -> Gate:
    """Returns the gate that an option describes, or the default one.

    Args:
        gate: A path, a URI, or a JSON object itself (an engine's form has no files); None for the defaults: no floor,
            epsilon 0, the training's own primary metric.
        primary_metric: The training's primary metric.
        mode: Its mode.
        metrics: The metrics that the task yields; empty where that is not known.

    Raises:
        InvalidConfig: If the file is missing or wrong; the message names the field.
    """
    fields = read_gate(gate)
    metric = fields.primary_metric or primary_metric
    if fields.primary_metric_mode:
        mode = fields.primary_metric_mode
    elif metric != primary_metric:
        mode = "min" if metric.endswith("loss") else "max"
    if metrics and metric not in metrics:
        raise InvalidConfig(
            f"--gate: primary_metric is {metric}, which the evaluation does not yield; set it to one of {', '.join(metrics)}."
        )
    _check_floor(fields.floor, metric)
    epsilon = fields.epsilon or 0.0
    least, most = metric_range(metric)
    if not 0 <= epsilon <= most - least or epsilon == math.inf:
        widest = f" to {most - least:g}: {metric} goes from {least:g} to {most:g}" if math.isfinite(most) else ""
        raise InvalidConfig(f"--gate: epsilon is {epsilon:g}; give a number from 0{widest}.")
    _check_conditions(fields, metric)
    conditions = {name: getattr(fields, name) for name in CONDITIONS}
    direction: Mode = "min" if mode == "min" else "max"
    return Gate(metric, direction, fields.floor, epsilon, fields.incomparable or "keep", **conditions)


def read_gate(gate: str | None) -> GateFile:
    """The fields that an option has; none without one. Raises InvalidConfig."""
    return read_option_file("--gate", gate, GateFile, '{"floor": 0.5}') if gate else GateFile()


def with_whole_paths(gate: str) -> str:
    """A gate's text in which the list of ``must_pass`` has a whole URI: what runs elsewhere does not know this working folder."""
    _, value = read_option("--gate", gate, '{"floor": 0.5}') if gate else ("", None)
    if not isinstance(value, dict):
        return gate  # what is wrong is told where the gate is read
    listed = value.get("must_pass")
    if not isinstance(listed, str) or not listed.strip():
        return gate
    return json.dumps({**value, "must_pass": normalise_uri(listed)}, ensure_ascii=False)


def _check_conditions(fields: GateFile, metric: str) -> None:
    if fields.must_pass is not None and not fields.must_pass.strip():
        raise InvalidConfig("--gate: must_pass is empty; give the URI of a list of images, or leave it out.")
    least, most = metric_range(metric)
    ranges = {
        "max_class_drop": (0.0, most - least),
        "min_images": (1, math.inf),
        "min_objects": (1, math.inf),
        "max_size_mb": (0.0, math.inf),
        "max_latency_ms": (0.0, math.inf),
        "max_seen": (0.0, 1.0),
    }
    for name, (lowest, highest) in ranges.items():
        value = getattr(fields, name)
        if value is not None and not (lowest <= value <= highest and math.isfinite(value)):
            to = f" to {highest:g}" if math.isfinite(highest) else ""
            raise InvalidConfig(f"--gate: {name} is {value:g}; give a number from {lowest:g}{to}.")


def _check_floor(floor: float | None, metric: str) -> None:
    if floor is None:
        return
    least, most = metric_range(metric)
    if math.isfinite(floor) and least <= floor <= most:
        return
    wanted = f"a number from {least:g} to {most:g}" if math.isfinite(most) else "a number from 0"
    if not math.isfinite(least):
        wanted = "a finite number"
    raise InvalidConfig(f"--gate: floor is {floor:g}, which {metric} can't be; give {wanted}.")


def decide(
    gate: Gate,
    metrics: Mapping[str, float],
    champion: Mapping[str, float] | None,
    *,
    obstacle: str | None = None,
    own: bool = False,
    not_measured: Mapping[str, str] | None = None,
    unmet: Sequence[str] = (),
    compared: Mapping[str, float] | None = None,
    where: str = "",
) -> tuple[Verdict, str]:
    """Returns the verdict and its reason, in the order of docs/contract.md, "Gate".

    Args:
        gate: The gate.
        metrics: The candidate's metrics on all images of the split.
        champion: The champion's metrics on the same images; None without a champion, or with an obstacle.
        obstacle: Why the metrics of an existing champion could not be obtained.
        own: Whether the champion is the candidate itself.
        not_measured: By metric, why the candidate does not have it.
        unmet: A clause for each condition that is not met.
        compared: The candidate's metrics in the comparison, where that is not on all images and classes.
        where: What the comparison is on then, in words.
    """
    name = gate.primary_metric
    if name not in metrics:
        why = (not_measured or {}).get(name, "the evaluation does not yield it")
        return "keep", f"{name} is not measured: {why}."
    value = metrics[name]
    if not gate.reaches_floor(value):
        side = "below" if gate.primary_metric_mode == "max" else "above"
        return "reject", f"{name} {value:.4g} is {side} the floor {gate.floor:.4g}."
    if value == 0 and gate.floor is None and gate.primary_metric_mode == "max":
        return "keep", f"{name} is 0, and only a gate with an explicit floor lets a 0 through."
    if unmet:
        return "keep", f"{name} is {value:.4g}, but {'; '.join(unmet)}."
    shown = f"{name} is {value:.4g}" if gate.floor is None else f"{name} {value:.4g} reaches the floor"
    if own:
        return "promote", f"{shown}, and the model is the champion already."
    if champion is not None and name not in champion:
        obstacle = f"its evaluation has no {name}"
    if obstacle is not None:
        promotes = gate.incomparable == "promote"
        rule = "the gate promotes it anyway" if promotes else "a person decides"
        return (
            "promote" if promotes else "keep",
            f"{name} {value:.4g} could not be compared with the champion's: {obstacle}; {rule}.",
        )
    if champion is None:
        return "promote", f"{shown}, and there is no champion yet."
    on = ""
    if compared is not None:
        value, on = compared[name], f" on {where}"
    verdict: Verdict = "promote" if gate.beats(value, champion[name]) else "keep"
    return verdict, f"{name} {value:.4g}{on} {_relation(gate, value, champion[name])}."


def _relation(gate: Gate, value: float, champion: float) -> str:
    """How a value compares with the champion's, in words that show on which side of epsilon it is."""
    theirs = f"the champion's {champion:.4g}"
    if value == champion:
        return f"equals {theirs}" + (f", and epsilon is {gate.epsilon:.4g}" if gate.epsilon else "")
    if (value > champion) == (gate.primary_metric_mode == "max"):
        return f"is better than {theirs}"
    if not gate.epsilon:
        return f"is worse than {theirs}"
    side = f"less than {gate.epsilon:.4g}" if gate.beats(value, champion) else f"{gate.epsilon:.4g} or more"
    return f"is worse than {theirs} by {side}"
