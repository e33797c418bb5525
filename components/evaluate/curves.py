"""Precision–recall, F1, cost and calibration curves, as data and as lines of the page's charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from markupsafe import Markup
from numpy.typing import NDArray

from visionloop.components.evaluate.calibration import Calibration
from visionloop.components.evaluate.roc import Curve
from visionloop.core.canonical import canonical
from visionloop.training.trainers import ClassCurves

#: The points of a line, and how many of the worst classes have a line of their own.
POINTS = 101
WORST = 4

_AXIS = numpy.linspace(0, 1, POINTS)

Array = NDArray[Any]


def charts(
    candidate: Mapping[str, ClassCurves], champion: Mapping[str, ClassCurves], order: Sequence[str]
) -> dict[str, Any] | None:
    """The lines of both charts: the mean of all classes, the champion's, and the worst classes'.

    Args:
        candidate: The candidate's curves by class name.
        champion: The champion's; empty where there is none to compare with.
        order: Class names, the worst first.

    Returns:
        ``precision`` and ``f1``, the lines of each chart, and the highest mean F1 with its confidence; None without any curve.
    """
    ours, theirs = _sampled(candidate), _sampled(champion)
    if not ours:
        return None
    names = [name for name in order if name in ours][:WORST] if len(ours) > 1 else []
    mean = numpy.mean(list(ours.values()), axis=0)
    drawn: list[tuple[str, str, Array]] = [(f"c{number}", name, ours[name]) for number, name in enumerate(names)]
    if theirs:
        drawn.append(("champion", "the champion", numpy.mean(list(theirs.values()), axis=0)))
    drawn.append(("all", f"all {len(ours)} classes" if len(ours) > 1 else next(iter(ours)), mean))
    best = int(mean[1].argmax())
    return {
        "precision": [_line(kind, name, _AXIS, values[0]) for kind, name, values in drawn],
        "f1": [_line(kind, name, _AXIS, values[1]) for kind, name, values in drawn],
        "best": f"{mean[1][best]:.3f}",
        "confidence": f"{_AXIS[best]:.2f}",
    }


def encoded(curves: Mapping[str, ClassCurves]) -> bytes:
    """``curves.json``: by class name ``precision`` at ``POINTS`` recalls and ``f1`` at as many least confidences, evenly spaced from 0 to 1."""
    sampled = {name: rows.round(6).tolist() for name, rows in _sampled(curves).items()}
    return canonical({name: {"precision": precision, "f1": f1} for name, (precision, f1) in sampled.items()})


def calibration_chart(measured: Calibration | None) -> dict[str, Any] | None:
    """The share of right predictions by confidence as a line, with the line on which confidences are true; None without a bin of enough."""
    if measured is None or measured.error is None:
        return None
    enough = [each for each in measured.bins if each.confidence is not None]
    x, y = (numpy.array([getattr(each, name) for each in enough]) for name in ("confidence", "right"))
    lines = [_line("champion", "at its word", numpy.array([0, 1]), numpy.array([0, 1])), _line("all", "", x, y)]
    return {"lines": lines, "error": f"{measured.error:.3f}", "counted": measured.counted}


def roc_chart(roc: Curve | None) -> dict[str, Any] | None:
    """The ROC curve as the one line of a chart, with the line of chance."""
    if roc is None:
        return None
    lines = [
        _line("champion", "chance", numpy.array([0, 1]), numpy.array([0, 1])),
        _line("all", "", numpy.array(roc.fpr), numpy.array(roc.tpr)),
    ]
    return {"lines": lines, "area": f"{roc.area:.3f}", "right": roc.right, "wrong": roc.wrong}


def cost_chart(curves: Mapping[str, Sequence[float]], order: Sequence[str]) -> list[dict[str, Any]] | None:
    """The lines of the cost by confidence, each as a share of its highest: of all classes together, and of the worst ones.

    Args:
        curves: The cost of each class at confidences that are evenly spaced between 0 and 1, by name.
        order: Class names, the worst first.
    """
    if not curves:
        return None
    names = [name for name in order if name in curves][:WORST] if len(curves) > 1 else []
    drawn: list[tuple[str, str, Array]] = [(f"c{n}", name, numpy.array(curves[name])) for n, name in enumerate(names)]
    together = numpy.sum(list(curves.values()), axis=0)
    drawn.append(("all", f"all {len(curves)} classes" if names else next(iter(curves)), together))
    x = numpy.linspace(0, 1, len(drawn[0][2]) + 2)[1:-1]
    return [_line(kind, name, x, values / (values.max() or 1)) for kind, name, values in drawn]


def _sampled(curves: Mapping[str, ClassCurves]) -> dict[str, Array]:
    """Precision and F1 of each class at ``POINTS`` points, 2 × POINTS; without what is not finite or not a curve."""
    sampled = {}
    for name, curve in curves.items():
        rows = [numpy.asarray(values, dtype=float) for values in (curve.precision, curve.f1)]
        if all(row.size > 1 and numpy.isfinite(row).all() for row in rows):
            sampled[name] = numpy.array([numpy.interp(_AXIS, numpy.linspace(0, 1, row.size), row) for row in rows])
    return sampled


def _line(kind: str, name: str, x: Array, y: Array) -> dict[str, Any]:
    """A line as points of a square of side 100 with the origin at the upper left; numbers alone, so it is markup."""
    points = " ".join(f"{100 * a:.2f},{100 - 100 * b:.2f}" for a, b in zip(x, y.clip(0, 1), strict=True))
    return {"kind": kind, "name": name, "points": Markup(points)}  # noqa: S704
