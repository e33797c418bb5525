"""What there is to learn from and to measure: the labels that conversion keeps and leaves out, and the classes that each split shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionloop.data.annotations.findings import Finding, Severity
from visionloop.data.annotations.images import images
from visionloop.data.annotations.labels import (
    BOX_REASONS,
    Reason,
    class_index,
    clipped_boxes,
    owners_of_repetitions,
    yolo_rows,
)
from visionloop.data.annotations.tables import SPLITS, Annotations, column, in_parts, offsets
from visionloop.data.sentences import printable, shown

#: The reasons for which an object becomes no label.
REASONS: tuple[Reason, ...] = get_args(Reason)

#: What becomes of an object: it is kept, it is counted nowhere, or it is left out (the index of its reason in REASONS).
KEPT, PASSED_OVER = -1, -2

#: How many boxes are looked at together.
_BOXES_AT_ONCE = 1_000_000

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """What conversion makes of each object.

    Attributes:
        reasons: By the object's row: KEPT, PASSED_OVER or the index of a reason in REASONS.
        repeats: The row of the object that one repeats, by its own row.
    """

    reasons: npt.NDArray[np.int8]
    repeats: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a dataset: those kept by split and class id, those left out by reason."""

    kept: dict[str, Counter[int]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    left_out: Counter[str] = field(default_factory=Counter)


def outcomes(read: Annotations) -> Outcomes:
    """What becomes of each object. A classification image with one class has one label, any other none."""
    if read.task == "classification":
        return Outcomes(_single_labels(read))
    if read.task == "detection":
        reasons, looked_at = _boxes(read)
    else:
        reasons, looked_at = np.full(len(read.objects), KEPT, np.int8), None
    repeats: dict[int, int] = {}
    index, bounds = class_index(read), offsets(read)
    for image in images(read, looked_at):
        first = int(bounds[image.row])
        for dropped in yolo_rows(image, read.task, index)[1]:
            reasons[first + dropped.index] = REASONS.index(dropped.reason)
            if dropped.repeats is not None:
                repeats[first + dropped.index] = first + dropped.repeats
    return Outcomes(reasons, repeats)


def _boxes(read: Annotations) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """What becomes of each box but for repetitions, and the images that may have some; a million boxes at a time."""
    bounds = offsets(read)
    reasons = np.empty(len(read.objects), np.int8)
    repeating = [np.empty(0, np.int64)]
    for first, behind in in_parts(bounds, _BOXES_AT_ONCE):
        begin, end = int(bounds[first]), int(bounds[behind])
        reasons[begin:end], some = _some_boxes(read, read.objects.slice(begin, end - begin))
        repeating.append(some)
    return reasons, np.concatenate(repeating)


def _some_boxes(read: Annotations, objects: pa.Table) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    boxes = clipped_boxes(read, objects)
    translated = np.array([REASONS.index(reason) for reason in BOX_REASONS] + [KEPT], np.int8)
    kept = boxes.reason < 0
    rows = (column(objects, "class_id"), boxes.left, boxes.top, boxes.right, boxes.bottom)
    repeating = owners_of_repetitions(column(objects, "image")[kept], *(values[kept] for values in rows))
    return translated[boxes.reason], repeating


def _single_labels(read: Annotations) -> npt.NDArray[np.int8]:
    """The first label of each image whose labels are of one class."""
    reasons = np.full(len(read.objects), PASSED_OVER, np.int8)
    bounds, class_id = offsets(read), column(read.objects, "class_id")
    some = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(some):
        least, most = (ufunc.reduceat(class_id, bounds[some]) for ufunc in (np.minimum, np.maximum))
        reasons[bounds[some][least == most]] = KEPT
    return reasons


def count_labels(
    read: Annotations, objects: Outcomes, splits: Mapping[str, Flags], images_left_out: Flags
) -> LabelCounts:
    """Counts labels, for each split of their image; those of images that are left out count under the reason ``image left out``.

    Args:
        read: The annotations.
        objects: What becomes of each object.
        splits: For each split, whether an image belongs to it, by row.
        images_left_out: Whether an image is left out, by row.
    """
    counts = LabelCounts()
    image, class_id = (read.objects[name].to_numpy() for name in ("image", "class_id"))
    gone, kept = images_left_out[image], objects.reasons == KEPT
    if total := int((gone & (objects.reasons != PASSED_OVER)).sum()):
        counts.left_out["image left out"] = total
    for split, belongs in splits.items():
        ids, numbers = np.unique(class_id[kept & ~gone & belongs[image]], return_counts=True)
        counts.kept[split].update(dict(zip(ids.tolist(), numbers.tolist(), strict=True)))
    for number, reason in enumerate(REASONS):
        if total := int((~gone & (objects.reasons == number)).sum()):
            counts.left_out[reason] = total
    return counts


def absences(read: Annotations, counts: LabelCounts) -> Iterator[Finding]:
    """What is not there to learn from (train, an error) or to measure (val and test, warnings)."""
    empty = [split for split in SPLITS if not counts.kept[split]]
    dropped = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.left_out.items()))
    why = f" (left out: {dropped})" if dropped else ""
    if "train" in empty:
        problem = f"of train have no label{why}, so there is nothing to learn; label its images, or change the split"
        yield _finding(read, "error", "no_labels", "images[]", problem)
        return
    if "val" in empty:
        problem = "of val have no label, so no epoch is measured, and the best epoch is the last one; label some of its images"
        yield _finding(read, "warning", "no_labels", "images[]", problem)
    if "test" in empty:
        problem = "of test have no label, so nothing is measured, and no model is promoted; label some of its images"
        yield _finding(read, "warning", "no_labels", "images[]", problem)
    annotated = set(np.unique(column(read.objects, "class_id")).tolist())
    for index, class_ in enumerate(read.classes):
        if class_.id not in annotated:
            continue  # empty_class says so
        where, name = f"classes[{index}]", shown(class_.name)
        if not counts.kept["train"][class_.id]:
            problem = f"{name} has no label in train, so it is never learned; label some, or remove the class"
            yield _finding(read, "warning", "class_absent", where, problem)
        if "val" not in empty and not counts.kept["val"][class_.id]:
            problem = (
                f"{name} has no label in val, so the best epoch is chosen without it; label some, or change the split"
            )
            yield _finding(read, "warning", "class_absent", where, problem)
        if "test" not in empty and not counts.kept["test"][class_.id]:
            problem = f"{name} has no label in test, so it is not measured; label some, or change the split"
            yield _finding(read, "warning", "class_absent", where, problem)


def _finding(read: Annotations, severity: Severity, code: str, where: str, problem: str) -> Finding:
    return Finding(severity, code, None, where, printable(f"{read.file}: {where} {problem}."))
