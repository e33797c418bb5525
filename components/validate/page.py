"""The validation report as a page: whether the dataset is usable, what was found, what it holds."""

from __future__ import annotations

from typing import Any

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import content
from visionloop.components.validate.examples import Gallery
from visionloop.components.validate.report import Report
from visionloop.core import reports
from visionloop.core.stage import Context
from visionloop.data import drawing
from visionloop.data.annotations.presence import LabelCounts
from visionloop.data.annotations.quality import Twins
from visionloop.data.datasets import dataset_sentence

#: The datasets that the page names, of several.
DATASETS = 10


def render(
    snapshot: Snapshot, report: Report, counts: LabelCounts, refusal: str | None, twins: Twins, context: Context
) -> bytes:
    """The page's HTML; pictures are read from the dataset unless the mode reads no image.

    Args:
        snapshot: The snapshot.
        report: What was found in it.
        counts: Its labels.
        refusal: Why the dataset is refused; None if it is usable.
        twins: The images that others are the same as, or like.
        context: The stage's run.
    """
    album = drawing.Album()
    gallery = Gallery.of(snapshot, album, context.alive, read=report.mode != "annotations")
    annotations = snapshot.annotations
    named = snapshot.title
    broken = {finding.file_name for finding in report.findings if finding.severity == "error" and finding.file_name}
    rows = content.classes(snapshot, counts)
    headline, tone = _headline(report, len(broken), refusal)
    values: dict[str, Any] = {
        "title": f"{headline.partition(':')[0]}: dataset {reports.name(named)}",
        "headline": headline,
        "tone": tone,
        "facts": {
            "Dataset": named,
            "Images": f"{report.images:,}",
            "Task": snapshot.task,
            "Mode": report.mode,
            **snapshot.selection.facts(annotations),
            "Snapshot": snapshot.id,
            **reports.origin(context),
            **_lies(snapshot),
        },
        "report": report,
        "refusal": refusal,
        "kinds": gallery.kinds(report, twins),
        "splits": content.splits(snapshot, counts),
        "objects": len(annotations.objects),
        "labels": sum(report.labels.values()),
        "classes": rows[: content.CLASSES],
        "more_classes": max(0, len(rows) - content.CLASSES),
        "sizes": content.box_sizes(snapshot),
        "mosaic": gallery.mosaic(broken),
        "left_out": album.left_out,
    }
    return reports.page("validate.html", values)


def _lies(snapshot: Snapshot) -> dict[str, str]:
    """Where the dataset lies; of several each one, with what its weight does."""
    if not snapshot.several:
        return {"URI": snapshot.dataset}
    said = [dataset_sentence(counts) for counts in snapshot.dataset_counts()]
    facts = {f"Dataset {number}": text for number, text in enumerate(said[:DATASETS], 1)}
    return facts | ({"More datasets": f"{len(said) - DATASETS}"} if len(said) > DATASETS else {})


def _headline(report: Report, broken: int, refusal: str | None) -> tuple[str, str]:
    """Refused or usable, with what matters, and the headline's colour."""
    warnings = f" {_number(report.warnings, 'warning')}" if report.warnings else ""
    if refusal is not None:
        images = f" in {_number(broken, 'image')}" if broken else ""
        return f"Refused: {_number(report.errors, 'error')}{images}", "bad"
    if report.quarantined:
        beside = f", and{warnings}" if warnings else ""
        return f"Usable: without {_number(len(report.quarantined), 'image')} that had errors{beside}", "warn"
    return (f"Usable: with{warnings}", "warn") if warnings else ("Usable: nothing is wrong", "good")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
