"""The gate: what a model must reach, and how much worse than the champion it may be (docs/contract.md, "Gate")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration.option_file import read_option_file

Mode = Literal["max", "min"]
Verdict = Literal["promote", "keep", "reject"]


class GateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``--gate``, JSON or YAML; every field is optional."""

    floor: float | None = None
    epsilon: float | None = None
    primary_metric: str | None = None
    primary_metric_mode: Mode | None = None
    incomparable: Literal["keep", "promote"] | None = None


@dataclass(frozen=True)
class Gate:
    """A resolved gate.

    Attributes:
        primary_metric: The metric that decides.
        primary_metric_mode: ``max`` where more is better, ``min`` where less is.
        floor: The least (``max``) or greatest (``min``) value of the metric that passes; None lets every value pass.
        epsilon: How much worse than the champion the metric may be, 0 or more.
        incomparable: The verdict when the champion can't be evaluated on this dataset: ``keep`` leaves the decision to a
            person, ``promote`` replaces the champion.
    """

    primary_metric: str
    primary_metric_mode: Mode
    floor: float | None
    epsilon: float
    incomparable: Literal["keep", "promote"]

    def content(self) -> dict[str, Any]:
        """The gate's content, as it is part of the key."""
        return {
            "primary_metric": self.primary_metric,
            "primary_metric_mode": self.primary_metric_mode,
            "floor": self.floor,
            "epsilon": self.epsilon,
            "incomparable": self.incomparable,
        }

    def reaches_floor(self, value: float) -> bool:
        """Whether a value reaches the floor."""
        if self.floor is None:
            return True
        return value >= self.floor if self.primary_metric_mode == "max" else value <= self.floor

    def holds_against(self, value: float, champion: float) -> bool:
        """Whether a value is not worse than the champion's by more than epsilon."""
        if self.primary_metric_mode == "max":
            return value >= champion - self.epsilon
        return value <= champion + self.epsilon


def resolve_gate(gate: str | None, primary_metric: str, mode: str) -> Gate:
    """Returns the gate that an option describes, or the default one.

    Args:
        gate: A path, a URI, or a JSON object itself (an engine's form has no files); None for the defaults: floor 0
            where more is better and none where less is, epsilon 0, the training's own primary metric.
        primary_metric: The training's primary metric.
        mode: Its mode.

    Raises:
        InvalidConfig: If the file is missing or wrong; the message names the field.
    """
    read = read_option_file("--gate", gate, GateFile, '{"floor": 0.5}') if gate else GateFile()
    metric = read.primary_metric or primary_metric
    if read.primary_metric_mode:
        mode = read.primary_metric_mode
    elif metric != primary_metric:
        mode = "min" if metric.endswith("loss") else "max"
    resolved: Mode = "min" if mode == "min" else "max"
    floor = read.floor if read.floor is not None else (0.0 if resolved == "max" else None)
    epsilon = read.epsilon or 0.0
    if epsilon < 0:
        raise InvalidConfig(f"--gate {gate}: epsilon is {epsilon:g}; give a number from 0.")
    return Gate(metric, resolved, floor, epsilon, read.incomparable or "keep")


def decide(
    gate: Gate, metrics: Mapping[str, float], champion: Mapping[str, float] | None, obstacle: str | None = None
) -> tuple[Verdict, str]:
    """Returns the verdict and its reason.

    Args:
        gate: The gate.
        metrics: The candidate's metrics.
        champion: The champion's metrics on the same images; None without a champion, or with an obstacle.
        obstacle: Why the metrics of an existing champion could not be obtained.

    Raises:
        InvalidConfig: If the candidate does not have the gate's metric.
    """
    name = gate.primary_metric
    if name not in metrics:
        raise InvalidConfig(
            f"primary_metric is {name}, which the evaluation does not yield; set primary_metric in --gate to one of {', '.join(sorted(metrics)) or 'none'}."
        )
    value = metrics[name]
    if not gate.reaches_floor(value):
        side = "below" if gate.primary_metric_mode == "max" else "above"
        return "reject", f"{name} {value:.4g} is {side} the floor {gate.floor:.4g}."
    if champion is not None and name not in champion:
        obstacle = f"its evaluation has no {name}"
    if obstacle is not None:
        rule = "a person decides" if gate.incomparable == "keep" else "the gate promotes it all the same"
        return gate.incomparable, f"{name} {value:.4g} could not be compared with the champion's: {obstacle}; {rule}."
    if champion is None:
        return "promote", f"{name} {value:.4g} reaches the floor, and there is no champion yet."
    theirs = champion[name]
    margin = f" by more than {gate.epsilon:.4g}" if gate.epsilon else ""
    if gate.holds_against(value, theirs):
        return "promote", f"{name} {value:.4g} is not worse than the champion's {theirs:.4g}{margin}."
    return "keep", f"{name} {value:.4g} is worse than the champion's {theirs:.4g}{margin}."
