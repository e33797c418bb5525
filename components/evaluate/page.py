"""The evaluation as a page: what was measured, candidate against champion, classes, curves, confusion, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionloop.components.evaluate.confusion import folded
from visionloop.components.evaluate.curves import calibration_chart, charts, cost_chart, roc_chart
from visionloop.components.evaluate.examples import Example, Examples
from visionloop.components.evaluate.kinds import KINDS
from visionloop.components.evaluate.latency import Latency
from visionloop.components.evaluate.operating import OperatingPoint, described
from visionloop.components.evaluate.ranking import class_metric, field_slices, less_is_better, worst_first
from visionloop.components.evaluate.result import EvaluationResult, seen_sentence, shared_sentence
from visionloop.components.evaluate.roc import Curve
from visionloop.core import reports
from visionloop.core.reports import Figure, Key
from visionloop.core.stage import Context, Resolution
from visionloop.data import drawing
from visionloop.training import stopwatch
from visionloop.training.trainers import Evaluation, Prediction

#: The number of classes beyond which the table is cut.
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
    "none": ("it was only measured", ""),
}

#: What the page calls that which is counted, that which is predicted, and what makes it right.
WORDS = {
    "detection": {"counted": "objects", "predicted": "detections", "right": "at an overlap of 0.5"},
    "segmentation": {"counted": "objects", "predicted": "detections", "right": "at an overlap of 0.5 of the masks"},
    "pose": {"counted": "objects", "predicted": "detections", "right": "at a likeness of 0.5 of the keypoints (OKS)"},
    "classification": {"counted": "images", "predicted": "images", "right": "by the likeliest class"},
}

#: What each kind of mistake is.
KIND_MEANINGS = {
    "class": "on an object of another class",
    "localisation": "its class is right, its place is not (an overlap of 0.1 to 0.5)",
    "both": "near an object of another class (an overlap of 0.1 to 0.5)",
    "duplicate": "on an object that a more confident detection has found",
    "background": "on nothing that is labelled (an overlap below 0.1)",
    "missed": "an object that no detection is about",
}

#: The order in which the worst images stand, the first without kinds.
ORDER = ("", *KINDS)

#: The colours of detections and objects, by what they are.
RIGHT, WRONG, MISSED, FOUND = "#2ea043", "#ff1f1f", "#ffc400", "#ffffff"


@dataclass(frozen=True)
class Evaluated:
    """What the page shows.

    Attributes:
        result: The result.
        candidate: The candidate's evaluation.
        champion: That of another model that is the champion, on the same images; None where there is none.
        roc: The ROC curve.
        examples: Images with their detections.
        objects: The number of true objects by class name.
        latency: How long the candidate takes to answer.
        point: The operating point; None for a model that is only measured.
    """

    result: EvaluationResult
    candidate: Evaluation
    champion: Evaluation | None
    roc: Curve | None
    examples: Examples
    objects: Mapping[str, int]
    latency: Latency
    point: OperatingPoint | None


def render(
    evaluated: Evaluated, resolution: Resolution[Any], context: Context, links: Mapping[str, str] | None = None
) -> bytes:
    """The page's HTML; ``links`` lead to the other pages, by name."""
    result, candidate, loaded = evaluated.result, evaluated.candidate, resolution.loaded
    meaning, colour = MEANINGS[result.verdict]
    theirs = result.champion_metrics or {}
    own = result.compared_metrics or result.metrics
    metric = str(result.gate["primary_metric"])
    order = worst_first(result)
    model = loaded.candidate.label or str(
        resolution.run_scalars.get("registered_name") or resolution.parameters["model_name"].value
    )
    annotations, album = loaded.snapshot.annotations, drawing.Album()
    classes = candidate.classes
    headline = _headline(result, metric)
    compared = evaluated.champion.curves if evaluated.champion else {}
    worst = [
        {"kind": kind, "images": result.errors.get(kind, {}).get("images"), "figures": figures}
        for kind, chosen in sorted(evaluated.examples.worst.items(), key=lambda item: ORDER.index(item[0]))
        if (figures := [_figure(example, classes, album) for example in chosen])
    ]
    first = [_figure(example, classes, album) for example in evaluated.examples.first]
    values: dict[str, Any] = {
        "title": f"{reports.name(model)}: {headline}",
        "headline": headline,
        "tone": "",
        "facts": {
            **reports.origin(context, model),
            "Dataset": annotations.name or loaded.snapshot.dataset,
            "Snapshot": loaded.snapshot.id,
            "Split": f"{result.split}, {result.images:,} images",
            **(
                {} if loaded.candidate.label else {"Champion": loaded.champion.label if loaded.champion else "none yet"}
            ),
            "Training": result.training[:12],
        },
        "result": result,
        "meaning": meaning,
        "colour": colour,
        "metrics": [
            _row(name, value, own.get(name), theirs.get(name), primary=name == metric)
            for name, value in _ordered(result)
        ],
        "seen": " ".join(filter(None, (seen_sentence(result), shared_sentence(result)))),
        "difference": None if result.difference is None else [f"{bound:+.4f}" for bound in result.difference],
        "interval": None if result.interval is None else [f"{bound:.4f}" for bound in result.interval],
        "left_out_images": list(result.left_out.items())[:LEFT_OUT],
        "more_left_out": max(0, len(result.left_out) - LEFT_OUT),
        "absent": _absent(result),
        "class_metric": class_metric(result),
        "lowest": "highest" if less_is_better(result) else "lowest",
        "classes": class_rows(result, order[:CLASSES], evaluated.objects),
        "more_classes": max(0, len(order) - CLASSES),
        "slices": _slices(result),
        "coco": [(name, f"{value:.4f}") for name, value in result.coco.items()],
        "errors": _errors(result),
        "by": "masks" if loaded.snapshot.task == "segmentation" else "boxes",
        "field_slices": field_slices(result),
        "confusion": folded(candidate.confusion, classes, order),
        "curves": charts(candidate.curves, compared, order),
        "trainer": loaded.trainer.name,
        "roc": roc_chart(evaluated.roc),
        **_point(evaluated.point, order),
        "calibration": calibration_chart(result.calibration),
        "words": WORDS[loaded.snapshot.task],
        "worst": worst,
        "first": first,
        "left_out": album.left_out,
        "latency": evaluated.latency,
        "times": stopwatch.described(loaded.candidate.timings),
    }
    return reports.page("evaluate.html", values, links)


def _headline(result: EvaluationResult, metric: str) -> str:
    value = result.metrics.get(metric)
    images = f"{result.images:,} image{'' if result.images == 1 else 's'} of the split {result.split}"
    return f"{metric} {NOT_MEASURED if value is None else f'{value:.3f}'} on {images}"


def _ordered(result: EvaluationResult) -> list[tuple[str, float | None]]:
    """The metrics, the primary one first; None for one that is not measured."""
    values: dict[str, float | None] = {**dict.fromkeys(result.not_measured), **result.metrics}
    return sorted(values.items(), key=lambda item: (item[0] != result.gate["primary_metric"], item[0]))


def _row(name: str, value: float | None, own: float | None, theirs: float | None, *, primary: bool) -> dict[str, Any]:
    """A metric on all images, the champion's, and the difference from ``own``, the candidate's on the images of the comparison."""
    return {
        "name": name,
        "value": NOT_MEASURED if value is None else f"{value:.4f}",
        "champion": None if theirs is None else f"{theirs:.4f}",
        "difference": None if theirs is None or own is None else f"{own - theirs:+.4f}",
        "primary": primary,
    }


def _absent(result: EvaluationResult) -> dict[str, list[str]]:
    """The classes for which the metric of the table is not measured, by reason."""
    metric, absent = class_metric(result), dict[str, list[str]]()
    for name, reasons in result.not_measured_per_class.items():
        if metric in reasons:
            absent.setdefault(reasons[metric], []).append(name)
    return absent


def class_rows(result: EvaluationResult, order: Sequence[str], objects: Mapping[str, int]) -> list[dict[str, Any]]:
    """The table of classes, in this order: name, objects, value and bar, and the champion's; empty if classes have no metric."""
    metric = class_metric(result)
    if metric is None:
        return []
    champion = result.champion_per_class or {}
    everything = (*result.per_class.values(), *champion.values())
    scale = max([1.0, *(values.get(metric, 0.0) for values in everything)])
    rows = []
    for name in order:
        value, theirs = result.per_class.get(name, {}).get(metric), champion.get(name, {}).get(metric)
        rows.append(
            {
                "name": name,
                "objects": objects.get(name, 0),
                "value": NOT_MEASURED if value is None else f"{value:.3f}",
                "share": None if value is None else round(100 * max(0.0, value) / scale, 1),
                "champion": None if theirs is None else f"{theirs:.3f}",
                "champion_share": None if theirs is None else round(100 * max(0.0, theirs) / scale, 1),
            }
        )
    return rows


def _point(point: OperatingPoint | None, order: Sequence[str]) -> dict[str, Any]:
    """The operating point, its table in this order, and the cost by confidence; without rows where none was chosen."""
    if point is None:
        return {"point": None}
    chosen = order[:CLASSES] if point.source == "val" else ()
    rows = [{"name": name, "confidence": point.confidence[name], "at": point.classes.get(name)} for name in chosen]
    cost = cost_chart(point.curves, order)
    return {"point": point, "confidence": described(point.confidence), "point_rows": rows, "cost": cost}


def _slices(result: EvaluationResult) -> list[dict[str, Any]]:
    """Objects by size, the lowest AP first; a size with too few objects last."""
    sizes = [(name, values) for name, values in result.slices.items() if name.startswith("size:")]
    rows = [{"name": name.removeprefix("size:"), **values} for name, values in sizes]
    return sorted(rows, key=lambda row: (row.get("AP") is None, row.get("AP") or 0.0))


def _errors(result: EvaluationResult) -> list[dict[str, Any]]:
    """The kinds of mistakes, those that cost most first, then by their number."""
    rows = [
        {"name": kind, "meaning": KIND_MEANINGS[kind], "count": values["count"], "cost": values.get("dAP")}
        for kind, values in result.errors.items()
    ]
    return sorted(rows, key=lambda row: (-(row["cost"] or 0.0), -row["count"]))


def _figure(example: Example, classes: Sequence[str], album: drawing.Album) -> Figure:
    """An image with what was detected, rightly and wrongly, and what was missed."""
    if all(entry.box is None for entry in (*example.truth, *example.predicted)):
        return _classified(example, classes, album)
    unmatched, wrong = set(example.missed), set(example.wrong)
    marks = [
        _mark(entry, MISSED, _label(classes, entry.class_index)) if number in unmatched else _mark(entry, FOUND, "")
        for number, entry in enumerate(example.truth)
    ]
    marks += [
        _mark(
            entry, WRONG if number in wrong else RIGHT, f"{_label(classes, entry.class_index)} {entry.confidence:.2f}"
        )
        for number, entry in enumerate(example.predicted)
    ]
    counts = (len(example.predicted) - len(wrong), len(wrong), len(unmatched))
    legend = [
        Key(name, colour, count)
        for name, colour, count in zip(("right", "wrong", "missed"), (RIGHT, WRONG, MISSED), counts, strict=True)
    ]
    drawn = sorted({entry.class_index for entry in (*example.truth, *example.predicted)})
    named = [
        f"{_label(classes, index)} {reports.name(classes[index], 40)}" for index in drawn if _numbered(classes[index])
    ]
    source = album.draw(example.path.read_bytes(), marks)
    mistakes = [f"{kind} {number}" for kind, number in example.kinds]
    return Figure(source, example.file_name, ", ".join([*named, *mistakes]), legend)


def _classified(example: Example, classes: Sequence[str], album: drawing.Album) -> Figure:
    """An image with its true class and the likeliest one."""
    source = album.draw(example.path.read_bytes(), ())
    keys = [Key(f"is {reports.name(classes[entry.class_index], 40)}", FOUND) for entry in example.truth[:1]]
    for entry in example.predicted[:1]:
        name = f"{reports.name(classes[entry.class_index], 40)} {entry.confidence:.2f}"
        keys.append(Key(name, WRONG if example.wrong else RIGHT))
    return Figure(source, example.file_name, "", keys)


def _numbered(name: str) -> bool:
    """Whether a class stands in pictures by its number: their letters are Latin, and they have little room."""
    return not (name.isascii() and name.isprintable() and len(name) <= 16)


def _label(classes: Sequence[str], index: int) -> str:
    return f"#{index}" if _numbered(classes[index]) else classes[index]


def _mark(entry: Prediction, colour: str, text: str) -> drawing.Mark:
    """An object as it is drawn: its outline where it has one, else its box, and its keypoints."""
    box = None
    if entry.box is not None and not entry.polygons:
        left, top, right, bottom = entry.box
        box = left, top, right - left, bottom - top
    outlines, points = [*entry.polygons, *entry.holes], [point[:2] for point in entry.keypoints.values()]
    style: Literal["thin", "plain"] = "thin" if colour == FOUND else "plain"
    return drawing.Mark(box, outlines, points, colour=colour, text=text, style=style)
