"""The page of versions side by side."""

from __future__ import annotations

from typing import Any

from visionloop.core import reports, runs
from visionloop.pipelines.models.comparison import Comparison, Side, class_text, data_sentence, facts, value_text

#: The number of classes beyond which the table is cut.
CLASSES = 100


def render(comparison: Comparison) -> bytes:
    """The page's HTML."""
    sides, rows = comparison.sides, comparison.by_class()
    labels = [side.label for side in sides]
    headline = f"{' and '.join([', '.join(labels[:-1]), labels[-1]])} side by side"
    values: dict[str, Any] = {
        "title": headline,
        "headline": headline,
        "tone": "",
        "facts": {"Models": ", ".join(labels), "Date": runs.now()},
        "labels": labels,
        "obstacles": comparison.obstacles,
        "notices": comparison.notices,
        "tiles": [{"label": side.label, "metric": side.metric, "value": _plain(side)} for side in sides if side.metric],
        "metrics": [(name, [value_text(side, name) for side in sides]) for name in comparison.metrics],
        "intervals": any(side.evaluation and side.evaluation.interval for side in sides),
        "class_metric": comparison.class_metric,
        "classes": [
            {"name": name, "values": [class_text(value) for value in values], "shares": _shares(values)}
            for name, values in rows[:CLASSES]
        ],
        "more_classes": max(0, len(rows) - CLASSES),
        "what": list(facts(comparison)),
        "data": [data_sentence(change) for change in comparison.data],
        "settings": comparison.settings,
        "equal_settings": comparison.equal_settings,
        "left_out": 0,
    }
    return reports.page("comparison.html", values)


def _plain(side: Side) -> str:
    value = side.metrics.get(side.metric or "")
    return "not measured" if value is None else f"{value:.3f}"


def _shares(values: list[float | None]) -> list[float | None]:
    """The widths of the bars in percent."""
    return [None if value is None else round(100 * min(1.0, max(0.0, value)), 1) for value in values]
