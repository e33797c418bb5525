"""What of an evaluation is worst: the order in which people read classes and slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.slicing import LEAST


def worst_first(result: EvaluationResult) -> list[str]:
    """The class names, the one with the worst metric first, then by name; those that are not measured come last."""
    metric = class_metric(result)
    sign = -1 if less_is_better(result) else 1

    def worth(name: str) -> tuple[bool, float, str]:
        value = result.per_class.get(name, {}).get(metric) if metric else None
        return value is None, 0.0 if value is None else sign * value, name

    return sorted(dict.fromkeys([*result.classes, *result.per_class, *result.not_measured_per_class]), key=worth)


def class_metric(result: EvaluationResult) -> str | None:
    """The metric by which classes are ordered: the primary one if classes have it."""
    groups: list[Mapping[str, object]] = [*result.per_class.values(), *result.not_measured_per_class.values()]
    names = [name for values in groups for name in values]
    wanted = str(result.gate["primary_metric"])
    return wanted if wanted in names else next(iter(names), None)


def less_is_better(result: EvaluationResult) -> bool:
    """Whether the metric by which classes are ordered is one of which less is better."""
    return (result.gate["primary_metric_mode"], result.gate["primary_metric"]) == ("min", class_metric(result))


def field_slices(result: EvaluationResult) -> list[dict[str, Any]]:
    """The slices by the values of fields, the worst first; those with too few images last.

    Each has ``name``, ``images``, ``objects`` and ``value``, the last two None where there is none, and ``why`` that is so.
    """
    metric, sign = str(result.gate["primary_metric"]), -1 if less_is_better(result) else 1
    rows = [
        {"name": name, "images": values["images"], "objects": values.get("objects"), "value": values.get(metric)}
        | {"why": "not measured" if min(values["images"], values.get("objects", LEAST)) >= LEAST else "too few"}
        for name, values in result.slices.items()
        if not name.startswith("size:")
    ]
    return sorted(rows, key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0)))
