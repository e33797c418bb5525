"""The model card: what a registered model is for, what it was trained on, how good it is, and how it is made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionloop.components.evaluate.operating import DEFAULT, OperatingPoint
from visionloop.components.evaluate.ranking import class_metric, field_slices, worst_first
from visionloop.components.evaluate.result import EvaluationResult, seen_sentence, shared_sentence
from visionloop.components.register import document
from visionloop.components.register.again import Again
from visionloop.components.register.document import (
    Block,
    Code,
    Document,
    Listing,
    Section,
    Strong,
    Table,
    paragraph,
    paragraphs,
)
from visionloop.components.register.exports import HEAD, Export
from visionloop.components.validate.report import Report, ReportedFinding
from visionloop.core import reports
from visionloop.core.receipts import Parameter, Result
from visionloop.data.sizes import SIZES
from visionloop.training import stopwatch
from visionloop.training.configuration.settings import BASIC, display

#: The largest number of classes that a card names; the others are only counted.
CLASSES = 50

#: The largest number of images left out that a card names.
LEFT_OUT = 10

#: The largest number of slices, and of kinds of findings, that a card names.
ROWS = 20

#: The longest value of a setting that a card shows, in characters.
LONGEST_VALUE = 120

#: What a model of a task does.
USES = {
    "detection": "It finds objects in pictures: for each a box, a class and a confidence.",
    "segmentation": "It finds objects in pictures: for each its outlines, a box, a class and a confidence.",
    "pose": "It finds objects in pictures and their keypoints: for each a box, a class and a confidence.",
    "classification": "It says what a picture shows: its likeliest classes, each with a confidence.",
}


@dataclass(frozen=True)
class Card:
    """The content of a card. ``version`` and ``alias`` are None while the model has none.

    Attributes:
        description: What the run's description says.
        report: What validate found in the dataset; None where that is not known.
        images: The number of images by split.
        licences: Licences by what has them.
        again: How the model is made again; None where that is not known.
        commit: The git commit of the working folder that it was registered from; empty where that is no repository.
        run: The run that registered it.
    """

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
    description: str = ""
    report: Report | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    again: Again | None = None
    commit: str = ""
    run: str = ""
    exports: Sequence[Export] = ()


def render(card: Card) -> str:
    """The card's Markdown, which ends with a line break."""
    return document.markdown(_content(card))


def shortened(card: Card, longest: int) -> str:
    """The card's Markdown up to the last block that ends within so many characters."""
    text = render(card)
    if len(text) <= longest:
        return text
    return text[:longest].rpartition("\n\n")[0] or text[:longest]


def page(card: Card) -> bytes:
    """The card as a page."""
    content, result = _content(card), card.result
    metric = str(result.gate["primary_metric"])
    value = result.metrics.get(metric)
    values: dict[str, Any] = {
        "title": content.title,
        "headline": content.title,
        "tone": "",
        "facts": {
            "Task": card.task,
            metric: "not measured" if value is None else f"{value:.4f}",
            "Classes": f"{len(card.classes):,}",
            "Dataset": card.dataset,
            "Snapshot": card.snapshot_id,
            **({"Run": card.run} if card.run else {}),
        },
        "left_out": 0,
        **document.values(content),
    }
    return reports.page("card.html", values)


def _content(card: Card) -> Document:
    result, training = card.result, card.training.receipt
    title = card.original_name if card.version is None else f"{card.original_name}, version {card.version}"
    sections = [
        Section("Intended use", _use(card)),
        Section(
            "Metrics",
            [
                paragraph(f"Measured on {result.images} images of the split {result.split}, {_part(card)}."),
                *paragraphs(_left_out(result)),
                _metrics(result),
                *paragraphs(_beside_metrics(result)),
                *_per_class(result),
                *_slices(result),
            ],
        ),
        Section("Operating point", _operating_point(card.point, card.task)),
        Section("Exports", _exports(card.exports)),
        Section("Limits", paragraphs(limits(result, card.report, test_was_seen=card.test_was_seen))),
        Section("Data", [*_data(card), *_known_issues(card.report)]),
        Section(
            "Training",
            [
                Table(
                    ("setting", "value", "from"),
                    [
                        (name, _shown(parameter.value), parameter.source)
                        for name, parameter in _settings(training.parameters)
                    ],
                ),
                *_times("The time of the training:", stopwatch.described(training.timings)),
                *_times(
                    "The time of an answer, where it was evaluated:",
                    stopwatch.described_answers(card.evaluation.receipt.timings),
                ),
            ],
        ),
        Section("Where it comes from", [_origin(card)]),
        Section("Make it again", _again(card.again)),
        Section("Use", _loading(card)),
    ]
    return Document(title, _opening(card), sections)


def _part(card: Card) -> str:
    """What the measured images have to do with the training."""
    if card.test_was_seen:
        return "which also chose the best epoch, so the figures flatter the model"
    return "which took no part in the training"


def _opening(card: Card) -> list[Block]:
    verdict = paragraph("Verdict ", Strong(card.result.verdict), f": {card.result.reason}")
    return [verdict] if card.alias is None else [verdict, paragraph("Registered as ", Strong(card.alias), ".")]


def _use(card: Card) -> list[Block]:
    blocks = paragraphs([f"Of its run: {card.description}" if card.description else "", USES.get(card.task, "")])
    return [
        *blocks,
        paragraph(f"It knows {_classes(card.classes, 'class', 'classes')}, and nothing else."),
        paragraph(f"It is meant for pictures such as those of {card.dataset}, on which it was trained and measured."),
    ]


def _metrics(result: EvaluationResult) -> Table:
    """The primary metric first; a column for the champion where there was one to compare with."""
    theirs = result.champion_metrics
    head = ("metric", "value") if theirs is None else ("metric", "value", "champion's")
    values: dict[str, float | None] = {**dict.fromkeys(result.not_measured), **result.metrics}
    ordered = sorted(values.items(), key=lambda item: (item[0] != result.gate["primary_metric"], item[0]))
    rows = []
    for name, value in ordered:
        row = [name, "not measured" if value is None else f"{value:.4f}"]
        if theirs is not None:
            row.append(f"{theirs[name]:.4f}" if name in theirs else "")
        rows.append(row)
    return Table(head, rows)


def _left_out(result: EvaluationResult) -> list[str]:
    if not result.left_out:
        return []
    images = [f"{name} ({reason})" for name, reason in result.left_out.items()]
    return [f"{len(images)} more images of the split were left out: {_first(images, LEFT_OUT)}."]


def _beside_metrics(result: EvaluationResult) -> list[str]:
    """What the comparison and the primary metric's interval say, then a sentence for each metric without a value, and one for each reason of classes."""
    sentences = [seen_sentence(result), shared_sentence(result)]
    metric = result.gate["primary_metric"]
    if result.interval is not None:
        low, high = result.interval
        sentences.append(f"{metric} lies between {low:.4f} and {high:.4f} in 95 % of 1,000 samples over the images.")
    if result.difference is not None:
        low, high = result.difference
        sentences.append(
            f"Its difference from the champion's lies between {low:+.4f} and {high:+.4f} in 95 % of 1,000 samples over the images of both."
        )
    sentences += [f"{name} is not measured: {why}." for name, why in sorted(result.not_measured.items())]
    by_reason: dict[str, list[str]] = {}
    for name, reasons in result.not_measured_per_class.items():
        for reason in dict.fromkeys(reasons.values()):
            by_reason.setdefault(reason, []).append(name)
    return sentences + [
        f"Classes not measured, because {why}: {_first(names, CLASSES)}." for why, names in by_reason.items()
    ]


def _per_class(result: EvaluationResult) -> list[Block]:
    """The metric of each class, the worst first."""
    metric = class_metric(result)
    measured = [name for name in worst_first(result) if metric in result.per_class.get(name, {})]
    if metric is None or not measured:
        return []
    champion = result.champion_per_class or {}
    rows = []
    for name in measured[:CLASSES]:
        row = [name, f"{result.per_class[name][metric]:.4f}"]
        if champion:
            theirs = champion.get(name, {}).get(metric)
            row.append("" if theirs is None else f"{theirs:.4f}")
        rows.append(row)
    more = len(measured) - len(rows)
    return [
        Table(("class", metric, "champion's") if champion else ("class", metric), rows),
        *paragraphs([f"{more} more classes, with better values, stand in evaluation.json." if more else ""]),
    ]


def _slices(result: EvaluationResult) -> list[Block]:
    """Objects by size, and images by the values of fields."""
    sizes = [(name, result.slices[f"size:{name}"]) for name in SIZES if f"size:{name}" in result.slices]
    fields = field_slices(result)
    blocks: list[Block] = []
    if sizes:
        rows = [
            (name, f"{values['objects']:,.0f}", f"{values['AP']:.4f}" if "AP" in values else "too few")
            for name, values in sizes
        ]
        blocks.append(Table(("objects by size", "number", "COCO's AP"), rows))
    if fields:
        named = [
            (
                row["name"],
                f"{row['images']:,.0f}",
                "" if row["objects"] is None else f"{row['objects']:,.0f}",
                row["why"] if row["value"] is None else f"{row['value']:.4f}",
            )
            for row in fields[:ROWS]
        ]
        blocks.append(Table(("slice", "images", "objects", str(result.gate["primary_metric"])), named))
        more = len(fields) - len(named)
        blocks += paragraphs([f"{more} more slices stand in evaluation.json." if more else ""])
    return blocks


def _operating_point(point: OperatingPoint, task: str) -> list[Block]:
    """From which confidence on a class counts, and why; of many classes the first by name."""
    use = (
        (
            " A class of an image is meant to count from this confidence on; ",
            " gives the likeliest classes whatever theirs is.",
        )
        if task == "classification"
        else (" Without a confidence of its own, ", " leaves out objects below it.")
    )
    words = (use[0], Code("predict"), use[1])
    if point.source == "default":
        return [paragraph(f"Confidence {DEFAULT:g} for each class, the default: it was not chosen by costs.", *words)]
    chosen = f"Chosen on {point.images} images of the split val, where misses and false alarms cost least at it."
    rows = []
    for name, confidence in sorted(point.confidence.items())[:CLASSES]:
        at = point.classes.get(name)
        counts = [str(at.objects), str(at.missed), str(at.false_alarms)] if at else ["0", "", ""]
        rows.append([name, f"{confidence:.2f}", *counts])
    more = len(point.confidence) - len(rows)
    return [
        paragraph(chosen, *words),
        Table(("class", "confidence", "in val", "missed", "false alarms"), rows),
        *paragraphs([f"{more} more classes stand in operating_point.json of the evaluation." if more else ""]),
    ]


def _exports(exports: Sequence[Export]) -> list[Block]:
    """What became of each export, and how far what it finds is from what the model finds; nothing without any."""
    if not exports:
        return []
    compared = "Each was run beside the model on the same images of the split; the differences are the largest ones."
    return [paragraph(compared), Table(HEAD, [export.row() for export in exports])]


def limits(result: EvaluationResult, report: Report | None, *, test_was_seen: bool) -> Iterator[str]:
    """What the figures do not say, and where the model is weak.

    Args:
        result: Its evaluation.
        report: What validate found in the dataset; None where that is not known.
        test_was_seen: Whether the images that it was measured on also chose its best epoch.
    """
    metric = str(result.gate["primary_metric"])
    if test_was_seen:
        yield "The images that it was measured on also chose its best epoch: on others it is worse."
    if result.interval is not None:
        low, high = result.interval
        yield f"It was measured on {_images(result.images)}: {metric} is not known more closely than {low:.2f} to {high:.2f}."
    costs = {name: values["dAP"] for name, values in result.errors.items() if values.get("dAP")}
    if costs:
        worst = max(costs, key=lambda name: costs[name])
        yield f"Its costliest kind of mistake is {worst}: {costs[worst]:.3f} of AP at an overlap of 0.5."
    if result.calibration is not None and result.calibration.error is not None:
        yield f"Its confidence is off by {result.calibration.error:.3f} in the mean (expected calibration error)."
    few = [
        name
        for name, values in result.slices.items()
        if metric not in values and "AP" not in values and values.get("objects", values.get("images"))
    ]
    if few:
        yield f"Too few to measure: {_first(few, ROWS)}."
    if result.must_pass:
        failed = [f"{name} ({why})" for name, why in result.must_pass.items()]
        yield f"It is wrong on {_images(len(failed))} that it must be right on: {_first(failed, LEFT_OUT)}."
    if report is not None and report.quarantined:
        yield f"{_images(len(report.quarantined))} of the dataset had errors, from which it neither learned nor was measured."
    yield "Of pictures of another kind (another camera, place, light or season) nothing was measured."


def _data(card: Card) -> list[Block]:
    labels = card.report.labels if card.report else {}
    rows = [
        ("dataset", card.dataset),
        ("snapshot", card.snapshot_id),
        ("content", card.dataset_hash),
        ("task", card.task),
        ("classes", _classes(card.classes)),
        *((f"licence of {what}", licence) for what, licence in card.licences.items()),
    ]
    blocks: list[Block] = [Table(("", ""), rows)]
    if card.images:
        counts = [(split, f"{number:,}", f"{labels.get(split, 0):,}") for split, number in card.images.items()]
        blocks.append(Table(("split", "images", "labels"), counts))
    return blocks


def _known_issues(report: Report | None) -> list[Block]:
    """What validate found: kinds with their numbers, and what became no label."""
    if report is None:
        return []
    kinds: dict[tuple[str, str], list[ReportedFinding]] = {}
    for finding in report.findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    ordered = sorted(kinds.items(), key=lambda item: (item[0][0] != "error", -len(item[1]), item[0][1]))
    rows = [(code, severity, f"{len(found):,}", found[0].sentence) for (severity, code), found in ordered[:ROWS]]
    how = f"Known issues, as validate found them in the mode {report.mode}"
    left = ", ".join(f"{count:,} by {reason}" for reason, count in sorted(Counter(report.labels_left_out).items()))
    table: list[Block] = [paragraph(f"{how}:"), Table(("finding", "severity", "number", "such as"), rows)]
    return [
        *(table if rows else []),
        *paragraphs(
            [
                "" if rows else f"{how}: none.",
                f"{len(ordered) - len(rows)} more kinds stand in report.json of validate."
                if len(ordered) > len(rows)
                else "",
                f"Objects that became no label: {left}." if left else "",
                *(measure.sentence for measure in report.drift if measure.drifted),
            ]
        ),
    ]


def _origin(card: Card) -> Table:
    training = card.training.receipt
    rows = [
        ("files", card.storage or ""),
        ("training", card.training.uri),
        ("evaluation", card.evaluation.uri),
        ("result digest", card.result.training),
        *_tracking(training.tracking),
        ("run", card.run),
        ("trace id", training.trace_id),
        ("git commit", card.commit),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(training.versions.items()))),
    ]
    return Table(("", ""), [row for row in rows if row[1]])


def _again(again: Again | None) -> list[Block]:
    if again is None:
        return []
    return [
        paragraph("This command trains, evaluates and registers it again; what is there already it takes as it is:"),
        Listing("sh", again.command),
        *paragraphs(again.remarks),
    ]


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"


def _first(names: Sequence[str], number: int) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return f"{', '.join(names[:number])}{more}"


def _classes(classes: Sequence[str], one: str = "", several: str = "") -> str:
    what = f" {one if len(classes) == 1 else several}" if one else ""
    return f"{len(classes)}{what}: {_first(classes, CLASSES)}"


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


def _times(title: str, rows: Sequence[tuple[str, str]]) -> list[Block]:
    """What took how long, where the receipt says it."""
    return [paragraph(title), Table(("", ""), rows)] if rows else []


def _tracking(tracking: Mapping[str, Any] | str) -> list[tuple[str, str]]:
    if not isinstance(tracking, Mapping):
        return []
    return [
        (tracker, str(entry.get("url") or entry["run_id"]))
        for tracker, entry in sorted(tracking.items())
        if isinstance(entry, Mapping) and entry.get("run_id")
    ]


def _loading(card: Card) -> list[Block]:
    if card.version is None:
        return []
    load = f'model = mlflow.pyfunc.load_model("models:/{card.name}/{card.version}")'
    return [Listing("python", f'import mlflow\n\n{load}\nmodel.predict(["image.jpg"])')]
