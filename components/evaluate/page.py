"""The evaluation as a page: candidate against champion, classes, confusion, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visionloop.components.evaluate.examples import Example, Examples
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.roc import Curve
from visionloop.core import reports
from visionloop.core.stage import Resolution
from visionloop.registry import Version
from visionloop.training.trainers import Evaluation

#: The number of classes beyond which the confusion matrix is not drawn, and beyond which the table of classes is cut.
CONFUSION_CLASSES = 30
CLASSES = 100

#: The number of images left out that the page names.
LEFT_OUT = 20

#: What stands in the place of a value.
NOT_MEASURED = "not measured"

#: What each verdict means, and its colour in the page's template.
MEANINGS = {
    "promote": ("it becomes the champion", "good"),
    "keep": ("the champion stays; it is registered as challenger", "warn"),
    "reject": ("it is not registered", "bad"),
}


def render(
    result: EvaluationResult,
    candidate: Evaluation,
    roc: Curve | None,
    examples: Examples,
    champion: Version | None,
    resolution: Resolution,
) -> bytes:
    """The page's HTML."""
    meaning, colour = MEANINGS[result.verdict]
    theirs = result.champion_metrics or {}
    metric = result.gate["primary_metric"]
    classes = candidate.classes
    values: dict[str, Any] = {
        "name": resolution.parameters["model_name"].value,
        "result": result,
        "meaning": meaning,
        "colour": colour,
        "champion": champion.label if champion else None,
        "metrics": [_row(name, value, theirs.get(name), primary=name == metric) for name, value in _ordered(result)],
        "interval": None if result.interval is None else [f"{bound:.4f}" for bound in result.interval],
        "left_out": list(result.left_out.items())[:LEFT_OUT],
        "more_left_out": max(0, len(result.left_out) - LEFT_OUT),
        "absent": _absent(result),
        "class_metric": _class_metric(result),
        "classes": _classes(result)[:CLASSES],
        "more_classes": max(0, len(_class_names(result)) - CLASSES),
        "slices": [{"name": name.removeprefix("size:"), **values} for name, values in result.slices.items()],
        "confusion": _confusion(candidate, classes),
        "roc": _roc(roc),
        "first": [_figure(example, classes) for example in examples.first],
        "worst": [_figure(example, classes) for example in examples.worst],
    }
    return reports.page("evaluate.html", values)


def _ordered(result: EvaluationResult) -> list[tuple[str, float | None]]:
    """The metrics, the primary one first; None for one that is not measured."""
    values: dict[str, float | None] = {**dict.fromkeys(result.not_measured), **result.metrics}
    return sorted(values.items(), key=lambda item: (item[0] != result.gate["primary_metric"], item[0]))


def _row(name: str, value: float | None, theirs: float | None, *, primary: bool) -> dict[str, Any]:
    return {
        "name": name,
        "value": NOT_MEASURED if value is None else f"{value:.4f}",
        "champion": None if theirs is None else f"{theirs:.4f}",
        "difference": None if theirs is None or value is None else f"{value - theirs:+.4f}",
        "primary": primary,
    }


def _class_metric(result: EvaluationResult) -> str | None:
    """The metric that the bars of the classes show: the primary one if classes have it."""
    groups: list[Mapping[str, object]] = [*result.per_class.values(), *result.not_measured_per_class.values()]
    names = [name for values in groups for name in values]
    wanted = result.gate["primary_metric"]
    return wanted if wanted in names else next(iter(names), None)


def _class_names(result: EvaluationResult) -> list[str]:
    """The classes that were measured, then the others."""
    return list(dict.fromkeys([*result.per_class, *result.not_measured_per_class]))


def _absent(result: EvaluationResult) -> dict[str, list[str]]:
    """The classes for which the metric of the table is not measured, by reason."""
    metric, absent = _class_metric(result), dict[str, list[str]]()
    for name, reasons in result.not_measured_per_class.items():
        if metric in reasons:
            absent.setdefault(reasons[metric], []).append(name)
    return absent


def _classes(result: EvaluationResult) -> list[dict[str, Any]]:
    metric = _class_metric(result)
    if metric is None:
        return []
    rows = []
    largest = max((values.get(metric, 0.0) for values in result.per_class.values()), default=0.0)
    scale = max(1.0, largest)
    for name in _class_names(result):
        values = result.per_class.get(name, {})
        theirs = (result.champion_per_class or {}).get(name, {}).get(metric)
        value = values.get(metric)
        rows.append(
            {
                "name": name,
                "value": NOT_MEASURED if value is None else f"{value:.3f}",
                "share": round(100 * max(0.0, value or 0.0) / scale, 1),
                "champion": None if theirs is None else f"{theirs:.3f}",
                "champion_share": None if theirs is None else round(100 * max(0.0, theirs) / scale, 1),
            }
        )
    return rows


def _confusion(candidate: Evaluation, classes: Sequence[str]) -> dict[str, Any] | None:
    """The confusion matrix as rows of counts, each with its share of its column, the true class."""
    matrix = candidate.confusion
    if not matrix or len(classes) > CONFUSION_CLASSES:
        return None
    names = [*classes, "background"][: len(matrix)]
    totals = [sum(row[column] for row in matrix) or 1 for column in range(len(matrix))]
    return {
        "names": names,
        "rows": [
            {
                "name": name,
                "cells": [
                    {"count": count, "share": round(count / totals[column], 3)} for column, count in enumerate(row)
                ],
            }
            for name, row in zip(names, matrix, strict=True)
        ],
    }


def _roc(roc: Curve | None) -> dict[str, Any] | None:
    """The curve as the points of a line in a square of side 100 with the origin at the upper left."""
    if roc is None:
        return None
    points = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y in zip(roc.fpr, roc.tpr, strict=True))
    return {"points": points, "area": f"{roc.area:.3f}", "right": roc.right, "wrong": roc.wrong}


def _figure(example: Example, classes: Sequence[str]) -> dict[str, Any]:
    boxes = [reports.Box(_sides(detection.box), "", 2, dashed=True) for detection in example.truth]
    boxes += [
        reports.Box(
            _sides(detection.box), f"{classes[detection.class_index]} {detection.confidence:.2f}", detection.class_index
        )
        for detection in example.predicted
    ]
    return {
        "source": reports.picture(example.path.read_bytes(), boxes),
        "name": example.file_name,
        "note": f"{len(example.truth)} true, {len(example.predicted)} detected, {example.mistakes} wrong",
    }


def _sides(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[2] - box[0], box[3] - box[1]
