"""``must_pass`` of the gate: images on which the model must be right at its operating point, whatever the metrics are."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from visionloop.components.evaluate.matching import match
from visionloop.components.evaluate.operating import OperatingPoint
from visionloop.components.evaluate.truth import Truth
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.tables import Annotations
from visionloop.data.sentences import printable, shown
from visionloop.registry.outputs import reaching
from visionloop.training.configuration.option_file import option_text
from visionloop.training.trainers import Prediction

OPTION = "--gate: must_pass"

#: The columns of a CSV, and how a list is written, for errors.
COLUMNS = ("file_name", "class", "x1", "y1", "x2", "y2")
EXAMPLE = '{"file_name": "a.png", "class": "cap", "box": [10, 20, 50, 60]}'

#: The most images that a sentence names.
NAMED = 10

Box = tuple[float, float, float, float]


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of the list: an image, the class of an object in it, and its box x1, y1, x2, y2 in pixels.

    Without a box all objects of the class that the dataset has in the image are meant; of a whole image its class.
    """

    file_name: str
    class_name: str = msgspec.field(name="class")
    box: Box | None = None


@dataclass(frozen=True)
class MustPass:
    """The list.

    Attributes:
        where: What names it in sentences.
        lines: Its lines.
    """

    where: str
    lines: Sequence[Expected]

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, in whichever order and form, for a key."""
        return sha256(canonical(sorted({msgspec.json.encode(line).decode() for line in self.lines})))

    @property
    def images(self) -> list[str]:
        """The file names, each once."""
        return sorted({line.file_name for line in self.lines})

    def check(self, dataset: Annotations, split: str, names: Collection[str], classes: Sequence[str]) -> None:
        """Refuses what can't be judged.

        Args:
            dataset: The dataset.
            split: The split whose images are measured.
            names: The file names of its images.
            classes: The model's own class names.

        Raises:
            InvalidConfig: If a class is not the model's, or an image that is of a class as a whole has a box.
            InvalidDataset: If the split does not hold an image, or the dataset has no object of a line without a box.
        """
        known = set(names)
        if absent := [name for name in self.images if name not in known]:
            which, are = ("image", "is") if len(absent) == 1 else ("images", "are")
            raise InvalidDataset(
                f"{self.where}: the split {split} does not hold the {which} {listed(absent, NAMED)}, which {are} in the list; "
                "correct the list, or the split."
            )
        unknown = next((line.class_name for line in self.lines if line.class_name not in classes), None)
        if unknown is not None:
            raise InvalidConfig(
                printable(
                    f"{self.where}: {shown(unknown)} is not a class here; the classes are {listed(classes, NAMED)}."
                )
            )
        truth = Truth(dataset, classes, self.images)
        for line in self.lines:
            if line.box is not None:
                if truth.whole_images:
                    raise InvalidConfig(
                        printable(
                            f"{self.where}: {shown(line.file_name)} has a box, and the images have classes as a whole; leave it out."
                        )
                    )
            elif not any(classes[entry.class_index] == line.class_name for entry in truth.of(line.file_name)):
                remedy = "" if truth.whole_images else ", or give a box"
                raise InvalidDataset(
                    printable(
                        f"{self.where}: {shown(line.file_name)} does not show {shown(line.class_name)} by the dataset's labels; "
                        f"correct the list or the labels{remedy}."
                    )
                )

    def expected(self, file_name: str, truth: Truth, classes: Sequence[str]) -> list[Prediction]:
        """The objects that must be found in an image, or its class."""
        lines = [line for line in self.lines if line.file_name == file_name]
        whole = {line.class_name for line in lines if line.box is None}
        boxes = {(line.class_name, line.box) for line in lines if line.box is not None and line.class_name not in whole}
        labelled = [entry for entry in truth.of(file_name) if classes[entry.class_index] in whole]
        return [*labelled, *(Prediction(classes.index(name), 1.0, box) for name, box in sorted(boxes))]


@dataclass(frozen=True)
class Judged:
    """What became of the list's images.

    Attributes:
        images: Their number.
        failed: By file name what is wrong, of those that are not right.
    """

    images: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)

    def unmet(self) -> list[str]:
        """The clause of the verdict's reason; empty if all are right."""
        if not self.failed:
            return []
        names = listed([f"{name} ({why})" for name, why in self.failed.items()], NAMED)
        are = "is" if len(self.failed) == 1 else "are"
        return [f"{len(self.failed):,} of {self.images:,} must-pass images {are} not right: {names} (must_pass)"]


def judge(
    required: MustPass,
    truth: Truth,
    predicted: Mapping[str, Sequence[Prediction]],
    point: OperatingPoint,
    classes: Sequence[str],
) -> Judged:
    """Judges each image at the operating point: every expected object is found, of its class and with an IoU of at least 0.5.

    What else is found there is no mistake here. Of a whole image the likeliest class counts.

    Args:
        required: The list.
        truth: What is true of its images.
        predicted: The predictions by file name; an image without an entry could not be measured.
        point: The operating point.
        classes: The model's own class names.
    """
    failed = {}
    for name in required.images:
        if name not in predicted:
            failed[name] = "left out of the split by convert"
            continue
        expected = required.expected(name, truth, classes)
        if truth.whole_images:
            found = reaching(predicted[name][:1], classes, point.confidence)
            missed = [entry for entry in expected if not found or found[0].class_index != entry.class_index]
        else:
            found = reaching(predicted[name], classes, point.confidence)
            missed = [expected[index] for index in match(expected, found)[0]]
        if missed:
            failed[name] = f"no {listed(sorted({classes[entry.class_index] for entry in missed}))}"
    return Judged(len(required.images), failed)


def read_must_pass(uri: str) -> MustPass:
    """Reads a list: a JSON object a line, or a CSV with the columns file_name, class and, for boxes, x1, y1, x2, y2.

    Raises:
        InvalidConfig: If it can't be read, names no image, or a line is wrong.
    """
    where, text = option_text(OPTION, uri)
    lines = _json_lines(where, text) if text.lstrip().startswith("{") else _csv(where, text)
    if not lines:
        raise InvalidConfig(f"{where}: it names no image; write a line for each, such as {EXAMPLE}.")
    return MustPass(where, lines)


def _json_lines(where: str, text: str) -> list[Expected]:
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            read = msgspec.json.decode(line, type=Expected)
        except msgspec.MsgspecError as error:
            raise InvalidConfig(
                printable(f"{where}: line {number}: {str(error).rstrip('.')}; write it as {EXAMPLE}.")
            ) from None
        lines.append(_checked(f"{where}: line {number}", read))
    return lines


def _csv(where: str, text: str) -> list[Expected]:
    rows = _rows(where, text)
    head = [name.strip() for name in next(rows, (1, []))[1]]
    if not head:
        return []
    if head not in (list(COLUMNS[:2]), list(COLUMNS)):
        raise InvalidConfig(
            printable(
                f"{where}: line 1: the columns are {shown(','.join(head))}; give {','.join(COLUMNS[:2])} or {','.join(COLUMNS)}."
            )
        )
    lines = []
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        at = f"{where}: line {number}"
        if len(row) > len(head) or len(row) < 2:
            raise InvalidConfig(f"{at}: {len(row)} fields, and the columns are {','.join(head)}; correct the line.")
        numbers = [cell for cell in row[2:] if cell.strip()]
        try:
            box = [float(number) for number in numbers]
        except ValueError:
            raise InvalidConfig(
                printable(f"{at}: {shown(','.join(row[2:]))} are not numbers; give x1,y1,x2,y2 in pixels.")
            ) from None
        if len(box) not in (0, 4):
            raise InvalidConfig(f"{at}: {len(box)} of the numbers x1,y1,x2,y2; give all of them or none.")
        read = Expected(
            file_name=row[0].strip(), class_name=row[1].strip(), box=(box[0], box[1], box[2], box[3]) if box else None
        )
        lines.append(_checked(at, read))
    return lines


def _rows(where: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV, each with the number of its line."""
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise InvalidConfig(printable(f"{where}: line {rows.line_num}: {error}; correct the line.")) from None


def _checked(at: str, line: Expected) -> Expected:
    """A line with a box that can be one. Raises InvalidConfig."""
    if line.box is not None:
        left, top, right, bottom = line.box
        if not (all(map(math.isfinite, line.box)) and left < right and top < bottom):
            raise InvalidConfig(f"{at}: the box {list(line.box)} has no area; give x1, y1, x2, y2 in pixels.")
    return line
