"""The model card: what a registered model is, what it was trained on and how good it is, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.evaluate.operating import DEFAULT, OperatingPoint
from visionloop.components.evaluate.result import EvaluationResult, seen_sentence, shared_sentence
from visionloop.core import texts
from visionloop.core.receipts import Parameter, Result
from visionloop.training import stopwatch
from visionloop.training.configuration.settings import BASIC, display

#: The largest number of classes that a card names; the others are only counted.
CLASSES = 50

#: The largest number of images left out that a card names.
LEFT_OUT = 10

#: The longest value of a setting that a card shows, in characters.
LONGEST_VALUE = 120

#: What Markdown or HTML would take for markup: a class may be named `<b>` or `a|b`.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&])")


@dataclass(frozen=True)
class Card:
    """The content of a card. ``version`` and ``alias`` are None while the model has none."""

    name: str
    original_name: str
    task: str
    classes: Sequence[str]
    result: EvaluationResult
    evaluation: Result
    training: Result
    snapshot_id: str
    dataset_hash: str
    dataset: str
    point: OperatingPoint
    version: int | None = None
    alias: str | None = None
    storage: str | None = None
    test_was_seen: bool = False


def render(card: Card) -> str:
    """The card's Markdown, which ends with a line break."""
    result, training = card.result, card.training.receipt
    title = card.original_name if card.version is None else f"{card.original_name}, version {card.version}"
    return (
        "\n\n".join(
            [
                f"# {escape(title)}",
                _opening(card),
                "## Metrics",
                f"Measured on {result.images} images of the split {escape(result.split)}, {_part(card)}.",
                *_left_out(result),
                _metrics(result),
                *_beside_metrics(result),
                "## Operating point",
                *_operating_point(card.point, card.task),
                "## Data",
                _table(
                    ("", ""),
                    [
                        ("dataset", escape(card.dataset)),
                        ("snapshot", card.snapshot_id),
                        ("content", card.dataset_hash),
                        ("task", escape(card.task)),
                        ("classes", _classes(card.classes)),
                    ],
                ),
                "## Training",
                _table(
                    ("setting", "value", "from"),
                    [
                        (escape(name), escape(_shown(parameter.value)), escape(parameter.source))
                        for name, parameter in _settings(training.parameters)
                    ],
                ),
                *_times(training.timings),
                *_speed(card.evaluation.receipt.timings),
                "## Where it comes from",
                _table(
                    ("", ""),
                    [
                        *([("files", escape(card.storage))] if card.storage else []),
                        ("training", escape(card.training.uri)),
                        ("evaluation", escape(card.evaluation.uri)),
                        ("result digest", result.training),
                        *_tracking(training.tracking),
                        ("trace id", escape(training.trace_id)),
                    ],
                ),
                *_use(card),
            ]
        )
        + "\n"
    )


def escape(text: str) -> str:
    """Returns the text as Markdown that shows it literally, on one line."""
    return _MARKUP.sub(r"\\\1", texts.sentence(str(text)))


def _part(card: Card) -> str:
    """What the measured images have to do with the training."""
    if card.test_was_seen:
        return "which also chose the best epoch, so the figures flatter the model"
    return "which took no part in the training"


def _opening(card: Card) -> str:
    verdict = f"Verdict **{card.result.verdict}**: {escape(card.result.reason)}"
    return verdict if card.alias is None else f"{verdict}\n\nRegistered as **{escape(card.alias)}**."


def _metrics(result: EvaluationResult) -> str:
    """The primary metric first; a column for the champion where there was one to compare with."""
    theirs = result.champion_metrics
    head = ("metric", "value") if theirs is None else ("metric", "value", "champion's")
    values: dict[str, float | None] = {**dict.fromkeys(result.not_measured), **result.metrics}
    ordered = sorted(values.items(), key=lambda item: (item[0] != result.gate["primary_metric"], item[0]))
    rows = []
    for name, value in ordered:
        row = [escape(name), "not measured" if value is None else f"{value:.4f}"]
        if theirs is not None:
            row.append(f"{theirs[name]:.4f}" if name in theirs else "")
        rows.append(row)
    return _table(head, rows)


def _left_out(result: EvaluationResult) -> list[str]:
    if not result.left_out:
        return []
    images = [f"{escape(name)} ({escape(reason)})" for name, reason in result.left_out.items()]
    return [f"{len(images)} more images of the split were left out: {_first(images, LEFT_OUT)}."]


def _beside_metrics(result: EvaluationResult) -> list[str]:
    """What the comparison and the primary metric's interval say, then a sentence for each metric without a value, and one for each reason of classes."""
    sentences = [escape(sentence) for sentence in (seen_sentence(result), shared_sentence(result)) if sentence]
    if result.interval is not None:
        metric = escape(result.gate["primary_metric"])
        low, high = result.interval
        sentences += [f"{metric} lies between {low:.4f} and {high:.4f} in 95 % of 1,000 samples over the images."]
    sentences += [
        f"{escape(name)} is not measured: {escape(why)}." for name, why in sorted(result.not_measured.items())
    ]
    by_reason: dict[str, list[str]] = {}
    for name, reasons in result.not_measured_per_class.items():
        for reason in dict.fromkeys(reasons.values()):
            by_reason.setdefault(reason, []).append(escape(name))
    return sentences + [
        f"Classes not measured, because {escape(why)}: {_first(names, CLASSES)}." for why, names in by_reason.items()
    ]


def _operating_point(point: OperatingPoint, task: str) -> list[str]:
    """From which confidence on a class counts, and why; of many classes the first by name."""
    use = (
        "A class of an image is meant to count from this confidence on; `predict` gives the likeliest classes whatever theirs is."
        if task == "classification"
        else "Without `confidence`, `predict` leaves out objects below it."
    )
    if point.source == "default":
        return [f"Confidence {DEFAULT:g} for each class, the default: it was not chosen by costs. {use}"]
    chosen = f"Chosen on {point.images} images of the split val, where misses and false alarms cost least at it. {use}"
    rows = []
    for name, confidence in sorted(point.confidence.items())[:CLASSES]:
        at = point.classes.get(name)
        counts = [str(at.objects), str(at.missed), str(at.false_alarms)] if at else ["0", "", ""]
        rows.append([escape(name), f"{confidence:.2f}", *counts])
    more = len(point.confidence) - len(rows)
    table = _table(("class", "confidence", "in val", "missed", "false alarms"), rows)
    return [chosen, table, *([f"{more} more classes stand in operating_point.json of the evaluation."] if more else [])]


def _first(texts: Sequence[str], number: int) -> str:
    more = f" and {len(texts) - number} more" if len(texts) > number else ""
    return f"{', '.join(texts[:number])}{more}"


def _classes(classes: Sequence[str]) -> str:
    return f"{len(classes)}: {_first([escape(name) for name in classes], CLASSES)}"


def _settings(parameters: Mapping[str, Parameter]) -> list[tuple[str, Parameter]]:
    """Returns the basic settings, then all others that are not defaults."""
    basic = [(name, parameters[name]) for name in BASIC if name in parameters]
    explicit = [
        (name, parameter)
        for name, parameter in sorted(parameters.items())
        if name not in BASIC and parameter.source != "default"
    ]
    return basic + explicit


def _shown(value: Any) -> str:
    text = display(value) if isinstance(value, bool | int | float | str) or value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _times(timings: Mapping[str, float]) -> list[str]:
    """Where the training's time went, where its receipt says it."""
    rows = stopwatch.described(timings)
    return ["The time of the training:", _table(("", ""), rows)] if rows else []


def _speed(timings: Mapping[str, float]) -> list[str]:
    """How long the model took to answer where it was evaluated, where the receipt says it."""
    rows = stopwatch.described_answers(timings)
    return ["The time of an answer, where it was evaluated:", _table(("", ""), rows)] if rows else []


def _tracking(tracking: Mapping[str, Any] | str) -> list[tuple[str, str]]:
    if not isinstance(tracking, Mapping):
        return []
    return [
        (escape(tracker), escape(entry.get("url") or entry["run_id"]))
        for tracker, entry in sorted(tracking.items())
        if isinstance(entry, Mapping) and entry.get("run_id")
    ]


def _use(card: Card) -> list[str]:
    if card.version is None:
        return []
    load = f'model = mlflow.pyfunc.load_model("models:/{card.name}/{card.version}")'
    return [
        "## Use",
        f'```python\nimport mlflow\n\n{load}\nmodel.predict(["image.jpg"])\n```',
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
