"""What there is to learn from and to measure: the labels that conversion keeps and leaves out, and the classes that each split shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from visionloop.data.dice.findings import Finding, Severity
from visionloop.data.dice.format import SPLITS, Dataset, printable, shown
from visionloop.data.dice.labels import LeftOut, class_index, yolo_rows


@dataclass(frozen=True)
class ImageLabels:
    """What conversion makes of an image: the class id of each label, and the objects that become none."""

    kept: tuple[int, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a dataset: those kept by split and class id, those left out by reason."""

    kept: dict[str, Counter[int]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    left_out: Counter[str] = field(default_factory=Counter)


def image_labels(dataset: Dataset) -> dict[str, ImageLabels]:
    """The labels of each image by file name. A classification image with one class has one, any other none."""
    if dataset.task == "classification":
        classes = {image.file_name: {entry.class_id for entry in image.annotations} for image in dataset.images}
        return {name: ImageLabels(tuple(ids) if len(ids) == 1 else ()) for name, ids in classes.items()}
    index = class_index(dataset)
    labels: dict[str, ImageLabels] = {}
    for image in dataset.images:
        rows, left_out = yolo_rows(image, dataset.task, index)
        kept = tuple(image.annotations[position].class_id for position in rows.values())
        labels[image.file_name] = ImageLabels(kept, tuple(left_out))
    return labels


def count_labels(
    labels: Mapping[str, ImageLabels], splits: Mapping[str, Sequence[str]], images_left_out: Collection[str]
) -> LabelCounts:
    """Counts labels, for each split of their image; those of images that are left out count under the reason ``image left out``."""
    counts = LabelCounts()
    for name, entry in labels.items():
        if name in images_left_out:
            counts.left_out["image left out"] += len(entry.kept) + len(entry.left_out)
            continue
        for split in splits[name]:
            counts.kept[split].update(entry.kept)
        counts.left_out.update(dropped.reason for dropped in entry.left_out)
    return counts


def absences(dataset: Dataset, counts: LabelCounts) -> Iterator[Finding]:
    """What is not there to learn from (train, an error) or to measure (val and test, warnings)."""
    empty = [split for split in SPLITS if not counts.kept[split]]
    dropped = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.left_out.items()))
    why = f" (left out: {dropped})" if dropped else ""
    if "train" in empty:
        problem = f"of train have no label{why}, so there is nothing to learn; label its images, or change the split"
        yield _finding(dataset, "error", "no_labels", "images[]", problem)
        return
    if "val" in empty:
        problem = "of val have no label, so no epoch is measured, and the best epoch is the last one; label some of its images"
        yield _finding(dataset, "warning", "no_labels", "images[]", problem)
    if "test" in empty:
        problem = "of test have no label, so nothing is measured, and no model is promoted; label some of its images"
        yield _finding(dataset, "warning", "no_labels", "images[]", problem)
    annotated = {entry.class_id for image in dataset.images for entry in image.annotations}
    for index, class_ in enumerate(dataset.classes):
        if class_.id not in annotated:
            continue  # empty_class says so
        where, name = f"classes[{index}]", shown(class_.name)
        if not counts.kept["train"][class_.id]:
            problem = f"{name} has no label in train, so it is never learned; label some, or remove the class"
            yield _finding(dataset, "warning", "class_absent", where, problem)
        if "test" not in empty and not counts.kept["test"][class_.id]:
            problem = f"{name} has no label in test, so it is not measured; label some, or change the split"
            yield _finding(dataset, "warning", "class_absent", where, problem)


def _finding(dataset: Dataset, severity: Severity, code: str, where: str, problem: str) -> Finding:
    return Finding(severity, code, None, where, printable(f"{dataset.file}: {where} {problem}."))
