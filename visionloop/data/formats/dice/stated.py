"""What a DICE file states twice, and what of it disagrees: names and ids of labels, areas, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding, Severity
from visionloop.data.annotations.tables import Annotations
from visionloop.data.dice.format import printable, shown
from visionloop.data.formats.columns import AREA_TOLERANCE, flattened, lengths
from visionloop.data.formats.dice.columns import masks
from visionloop.data.formats.dice.document import Header


class Contradictions:
    """Collects, piece by piece, the labels whose class name, image id or area disagrees with the rest."""

    def __init__(self, file: str, classes: Sequence[Class]) -> None:
        """``classes`` are the file's."""
        self.file = file
        self.findings: list[Finding] = []
        self.names = {entry.id: entry.name for entry in classes}

    def add(self, table: pa.Table, first: int) -> None:
        """Looks at a piece whose first image is ``images[first]``."""
        labels = flattened(table["annotations"])
        counts = lengths(table["annotations"].combine_chunks())
        parent = np.repeat(np.arange(len(table)), counts)
        begin = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
        found: list[tuple[int, Severity, str, str, str, str]] = []
        for row in np.flatnonzero(self._misnamed(labels)).tolist():
            class_id, name = labels.field("class_id")[row].as_py(), labels.field("class_name")[row].as_py()
            if class_id in self.names:
                problem = f"{shown(name)} disagrees with class_id {class_id}, which is {shown(self.names[class_id])}"
                found.append((row, "error", "class_name", "class_name", problem, "correct the label"))
        image_ids = table["id"].combine_chunks().take(pa.array(parent))
        other = pc.fill_null(pc.not_equal(labels.field("image_id"), image_ids), False)
        for row in np.flatnonzero(np.asarray(other)).tolist():
            said, identity = labels.field("image_id")[row].as_py(), image_ids[row].as_py()
            problem = f"{shown(said)} is not the id of the image that it lies in, {shown(identity)}"
            found.append((row, "error", "image_id", "image_id", problem, "correct the label and export again"))
        for row, area, product in _other_areas(labels):
            problem = f"{area:g} is not the box's width × height, {product:g}"
            found.append((row, "warning", "area", "area", problem, "export again"))
        for row, severity, code, part, problem, remedy in sorted(found, key=lambda entry: entry[0]):
            image = int(parent[row])
            field = f"images[{first + image}].annotations[{row - begin[image]}].{part}"
            name = table["file_name"][image].as_py()
            sentence = printable(f"{self.file}: {name}: {field} {problem}; {remedy}.")
            self.findings.append(Finding(severity, code, name, field, sentence))

    def _misnamed(self, labels: pa.Array) -> Any:
        """The labels whose class name is not that of their class id."""
        ids, names = pa.array(list(self.names), pa.int32()), pa.array(list(self.names.values()), pa.string())
        expected = names.take(pc.index_in(labels.field("class_id"), ids))
        return np.asarray(pc.fill_null(pc.not_equal(labels.field("class_name"), expected), False))


def _other_areas(labels: pa.Array) -> Iterator[tuple[int, float, float]]:
    """Row, area and width × height of the boxes whose area is neither; with polygons area is the polygons' own."""
    lists = labels.field("bbox")
    rows = np.flatnonzero(np.asarray(lists.is_valid()))
    box = np.asarray(lists.flatten(), np.float64).reshape(-1, 4)
    area = np.asarray(labels.field("area").to_numpy(zero_copy_only=False), np.float64)[rows]
    outlined = np.asarray(pc.or_(masks(labels).is_valid(), pa.array(lengths(labels.field("segmentation")) > 0)))
    with np.errstate(over="ignore", invalid="ignore"):
        product = box[:, 2] * box[:, 3]
        positive = (box[:, 2] > 0) & (box[:, 3] > 0) & np.isfinite(product)
        wrong = positive & ~outlined[rows] & (np.abs(area - product) > AREA_TOLERANCE * product)
    for index in np.flatnonzero(wrong):
        yield int(rows[index]), float(area[index]), float(product[index])


def stated(read: Annotations, header: Header) -> Iterator[Finding]:
    """What the file's statistics say that was counted otherwise, and what it leaves out."""
    yield from _statistics(read, header)
    for field, value in read.metadata.items():
        if not value:
            yield _general(read, "missing_metadata", field, "is missing", "set it in the labelling tool")


def _statistics(read: Annotations, header: Header) -> Iterator[Finding]:
    declared = header.statistics
    if declared is None:
        return
    total, images = len(read.objects), len(read.images)
    average = total / images
    names = {entry.id: entry.name for entry in read.classes}
    counted = pc.value_counts(read.objects["class_id"])
    classes: Counter[str] = Counter()
    for entry in counted.to_pylist():
        classes[names.get(entry["values"], str(entry["values"]))] += entry["counts"]
    splits: Counter[str] = Counter()
    for entry in pc.value_counts(read.images["split"]).to_pylist():
        splits[entry["values"] or "train"] += entry["counts"]
    compared: list[tuple[str, object, object, bool]] = [
        ("total_images", declared.total_images, images, declared.total_images == images),
        ("total_annotations", declared.total_annotations, total, declared.total_annotations == total),
        (
            "avg_annotations_per_image",
            declared.avg_annotations_per_image,
            round(average, 2),
            declared.avg_annotations_per_image is not None
            # Written with two decimals, rounded up or down.
            and abs(declared.avg_annotations_per_image - average) <= 0.005 + 1e-9,
        ),
        (
            "class_distribution",
            declared.class_distribution,
            dict(classes),
            _equal(declared.class_distribution, classes),
        ),
        ("split_distribution", declared.split_distribution, dict(splits), _equal(declared.split_distribution, splits)),
    ]
    for field, said, counts, equal in compared:
        if said is not None and not equal:
            yield _general(read, "statistics", f"statistics.{field}", f"says {said}, counted {counts}", "export again")


def _equal(declared: Mapping[str, int] | None, counted: Mapping[str, int]) -> bool:
    """Whether two distributions agree; a missing entry counts as 0."""
    declared = declared or {}
    return all(declared.get(key, 0) == counted.get(key, 0) for key in {*declared, *counted})


def _general(read: Annotations, code: str, field: str, problem: str, remedy: str) -> Finding:
    return Finding("warning", code, None, field, printable(f"{read.file}: {field} {problem}; {remedy}."))
