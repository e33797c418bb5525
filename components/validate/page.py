"""The validation report as a page with pictures."""

from __future__ import annotations

from collections import Counter
from typing import Any

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate.report import Report
from visionloop.core import reports
from visionloop.core.errors import InvalidDataset, NotFound
from visionloop.core.storage import Prefix
from visionloop.data import dice
from visionloop.data.images import ImageRow

PICTURES = 12
FINDINGS = 200
CLASSES = 100


def render(snapshot: Snapshot, report: Report, dataset: Prefix) -> bytes:
    """The page's HTML; pictures are read from the dataset unless the mode reads no image."""
    images = snapshot.annotations.images
    split_of = {row.file_name: row.split for row in snapshot.rows}
    splits_of = {row.file_name: snapshot.identity.splits_of(row) for row in snapshot.rows}
    per_split = Counter(split for splits in splits_of.values() for split in splits)
    objects: Counter[str] = Counter()
    per_class: Counter[int] = Counter()
    for image in images:
        for split in splits_of[image.file_name]:
            objects[split] += len(image.annotations)
        per_class.update(annotation.class_id for annotation in image.annotations)
    most = max(per_class.values(), default=1) or 1
    classes = [
        {"name": entry.name, "annotations": per_class[entry.id], "share": round(100 * per_class[entry.id] / most, 1)}
        for entry in snapshot.annotations.classes
    ]
    values: dict[str, Any] = {
        "report": report,
        "task": snapshot.task,
        "dataset": snapshot.dataset,
        "annotations": per_class.total(),
        "splits": [
            {
                "name": split,
                "images": per_split[split],
                "annotations": objects[split],
                "share": round(100 * per_split[split] / max(1, len(images)), 1),
            }
            for split in dice.SPLITS
        ],
        "classes": classes[:CLASSES],
        "more_classes": max(0, len(classes) - CLASSES),
        "findings": sorted(report.findings, key=lambda finding: finding.severity)[:FINDINGS],
        "more_findings": max(0, len(report.findings) - FINDINGS),
        "pictures": [] if report.mode == "annotations" else _pictures(snapshot, report, dataset, split_of),
    }
    return reports.page("validate.html", values)


def _pictures(snapshot: Snapshot, report: Report, dataset: Prefix, split_of: dict[str, str]) -> list[dict[str, str]]:
    """Images with findings first, then some of each split by file name."""
    images = {image.file_name: image for image in snapshot.annotations.images}
    rows = {row.file_name: row for row in snapshot.rows}
    sentences: dict[str, str] = {}
    for finding in report.findings:
        if finding.file_name and finding.file_name in images:
            sentences.setdefault(finding.file_name, finding.sentence)
    chosen = list(sentences)[: PICTURES // 2]
    for split in dice.SPLITS:
        names = sorted(name for name in images if split_of[name] == split and name not in sentences)
        chosen += names[: (PICTURES - PICTURES // 2) // len(dice.SPLITS) + 1]
    shown = []
    for name in chosen[:PICTURES]:
        source = _picture(images[name], rows[name], dataset, snapshot)
        if source:
            shown.append({"source": source, "name": name, "note": sentences.get(name, split_of[name])})
    return shown


def _picture(image: dice.Image, row: ImageRow, dataset: Prefix, snapshot: Snapshot) -> str | None:
    names = {entry.id: entry.name for entry in snapshot.annotations.classes}
    boxes = [
        reports.Box(
            annotation.bbox, names.get(annotation.class_id, f"class {annotation.class_id}"), annotation.class_id
        )
        for annotation in image.annotations
        if annotation.bbox is not None
    ]
    try:
        return reports.picture(dataset.read(row.key), boxes)
    except (NotFound, InvalidDataset):
        return None  # a finding says so
