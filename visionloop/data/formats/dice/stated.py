"""What a DICE file states twice, and what of it disagrees: names and ids of labels, areas, statistics."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding, Severity
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.columns import AREA_TOLERANCE, Numbers
from visionloop.data.formats.dice.document import Header, Label, Picture
from visionloop.data.formats.document import Piece
from visionloop.data.sentences import printable, shown

#: The row of a label, severity, code (the label's field), problem and remedy.
_Wrong = tuple[int, Severity, str, str, str]


class Contradictions:
    """Collects, piece by piece, the labels whose class name, image id or area disagrees with the rest."""

    def __init__(self, file: str, classes: Sequence[Class]) -> None:
        """``classes`` are the file's."""
        self.file = file
        self.findings: list[Finding] = []
        self.names = {entry.id: entry.name for entry in classes}

    def add(
        self,
        piece: Piece[Picture],
        labels: Sequence[Label],
        class_ids: Sequence[int],
        counts: npt.NDArray[np.int64],
        box: Numbers,
        area: Numbers | None,
    ) -> None:
        """Looks at a piece.

        Args:
            piece: The images.
            labels: The labels of all of them.
            class_ids: The class id of each label.
            counts: The number of labels of each image.
            box: Each label's box, as ``columns.boxes`` gives them.
            area: Each label's stated area, as ``columns.numbers`` gives them.
        """
        wrong = [
            *self._misnamed(labels, class_ids),
            *_elsewhere(piece.elements, labels, counts),
            *_other_areas(labels, box, area),
        ]
        begin = np.cumsum(counts) - counts
        for row, severity, code, problem, remedy in sorted(wrong, key=lambda entry: entry[0]):
            image = int(np.searchsorted(begin, row, "right")) - 1
            field = f"images[{piece.first + image}].annotations[{row - begin[image]}].{code}"
            name = piece.elements[image].file_name
            sentence = printable(f"{self.file}: {name}: {field} {problem}; {remedy}.")
            self.findings.append(Finding(severity, code, name, field, sentence))

    def _misnamed(self, labels: Sequence[Label], class_ids: Sequence[int]) -> Iterator[_Wrong]:
        """The labels whose class name is not that of their class id."""
        names = [label.class_name for label in labels]
        if names.count(None) == len(names) or names == list(map(self.names.get, class_ids)):
            return
        for row, (name, class_id) in enumerate(zip(names, class_ids, strict=True)):
            expected = self.names.get(class_id)
            if name is not None and expected is not None and name != expected:
                problem = f"{shown(name)} disagrees with class_id {class_id}, which is {shown(expected)}"
                yield row, "error", "class_name", problem, "correct the label"


def _elsewhere(pictures: Sequence[Picture], labels: Sequence[Label], counts: npt.NDArray[np.int64]) -> Iterator[_Wrong]:
    """The labels whose image id is not that of the image that they lie in."""
    said = [label.image_id for label in labels]
    if said.count(None) == len(said):
        return
    identities = [picture.id for picture in pictures]
    own = list(itertools.chain.from_iterable(map(itertools.repeat, identities, counts.tolist())))
    if said == own:
        return
    for row, (identity, other) in enumerate(zip(own, said, strict=True)):
        if identity is not None and other is not None and str(identity) != str(other):
            problem = f"{shown(other)} is not the id of the image that it lies in, {shown(identity)}"
            yield row, "error", "image_id", problem, "correct the label and export again"


def _other_areas(labels: Sequence[Label], box: Numbers, area: Numbers | None) -> Iterator[_Wrong]:
    """The boxes whose area is not width × height; with polygons area is the polygons' own."""
    if area is None:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        product = box[:, 2] * box[:, 3]
        positive = (box[:, 2] > 0) & (box[:, 3] > 0) & np.isfinite(product)
        other = positive & (np.abs(area - product) > AREA_TOLERANCE * product)
    for row in np.flatnonzero(other).tolist():
        if not labels[row].segmentation:
            problem = f"{area[row]:g} is not the box's width × height, {product[row]:g}"
            yield row, "warning", "area", problem, "export again"


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
