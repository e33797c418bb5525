"""Slices of a split by what the dataset says of its images and objects: ``metadata.source``, ``attributes.occluded``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.tables import PEOPLE, Annotations, column
from visionloop.data.sentences import printable, shown
from visionloop.training.trainers import Evaluation

#: The field that every evaluation is sliced by: objects by their size (``components.evaluate.coco``).
SIZE = "size"

#: The columns whose keys are fields, and the table that they are in.
TABLES = {"metadata": "images", "attributes": "objects"}

#: The fewest images, and the fewest objects, from which a slice has a number.
LEAST = 10

#: The most values of a field that are slices, the commonest first.
VALUES = 20

#: The longest text of a value, in characters.
LONGEST = 60


@dataclass(frozen=True)
class Field:
    """A field of the dataset: ``metadata`` or ``attributes``, and the key in it."""

    column: str
    key: str

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.column}.{self.key}"


def parse_slices(text: str | None, option: str = "--slices") -> tuple[Field, ...]:
    """Reads a comma list of fields; ``size`` is always one, and may be named.

    Args:
        text: Such as ``size,metadata.source,attributes.occluded``.
        option: Where it was written, for errors.

    Raises:
        InvalidConfig: If it names something else, or who labelled an image.
    """
    fields: dict[str, Field] = {}
    for name in filter(None, map(str.strip, (text or "").split(","))):
        if name == SIZE:
            continue
        table, dot, key = name.partition(".")
        if table not in TABLES or not dot or not key:
            raise InvalidConfig(
                printable(f"{option} {shown(name)}: not a field; give size, metadata.KEY or attributes.KEY.")
            )
        if key in PEOPLE:
            raise InvalidConfig(
                printable(f"{option} {name}: who labelled an image is never part of a result; name another field.")
            )
        fields[name] = Field(table, key)
    return tuple(fields.values())


@dataclass(frozen=True)
class Sliced:
    """The values of a field on a split's images.

    Attributes:
        field: The field.
        values: For each image, by file name, its values: of ``metadata`` one at most, of ``attributes`` one for each object.
    """

    field: Field
    values: Mapping[str, Sequence[str]]

    def slices(self) -> list[str]:
        """The values with most images, the commonest first, then by name."""
        counted = Counter(value for values in self.values.values() for value in dict.fromkeys(values))
        return [value for value, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:VALUES]]

    def left_out(self) -> int:
        """The number of values beyond those."""
        return len({value for values in self.values.values() for value in values}) - len(self.slices())


def nothing_has(field: Field, split: str) -> str:
    """The sentence about a field that no image of a split has, nor an object of one."""
    return f"nothing in the split {split} has {printable(str(field))}, so it is not sliced by it."


def sliced(annotations: Annotations, files: Sequence[str], fields: Sequence[Field]) -> list[Sliced]:
    """The values of fields on some images.

    Args:
        annotations: The dataset.
        files: The images' file names.
        fields: The fields.
    """
    names: list[str] = annotations.images["file_name"].to_pylist()
    wanted = {name: row for row, name in enumerate(names)}
    found = []
    for field in fields:
        values: dict[str, list[str]] = {file: [] for file in files}
        for row, text in _texts(annotations, field, np.array([wanted[file] for file in files if file in wanted], int)):
            value = json.loads(text).get(field.key)
            if value is not None:
                values[names[row]].append(named_by(value))
        found.append(Sliced(field, values))
    return found


def _texts(annotations: Annotations, field: Field, rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    """The row of an image, and the JSON of the field's column, of it or of each of its objects."""
    if field.column == "metadata":
        texts = annotations.images["metadata"].take(pa.array(rows)).to_pylist()
        pairs = zip(rows.tolist(), texts, strict=True)
    else:
        owners = column(annotations.objects, "image")
        own = np.flatnonzero(np.isin(owners, rows) & ~np.asarray(annotations.objects["iscrowd"]))
        texts = annotations.objects["attributes"].take(pa.array(own)).to_pylist()
        pairs = zip(owners[own].tolist(), texts, strict=True)
    return ((row, text) for row, text in pairs if text is not None)


def named_by(value: object) -> str:
    """A value as a slice is named by it: a text as it is, all else as JSON; a long one cut, with a part of its SHA-256."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 10]}… {sha256(text.encode())[:8]}"


def digest(found: Sequence[Sliced]) -> str:
    """SHA-256 of the values by file name, for a key."""
    return sha256(
        canonical({str(each.field): {name: list(values) for name, values in each.values.items()} for each in found})
    )


def measured(
    found: Sequence[Sliced], evaluation: Evaluation, names: Mapping[str, str], metric: str
) -> dict[str, dict[str, float]]:
    """What a model has on the images of each slice: those with the value, or with an object that has it.

    Args:
        found: The fields with their values.
        evaluation: The model's evaluation.
        names: The file name of each image by its path in the evaluated folder.
        metric: The metric.

    Returns:
        By slice (``metadata.source=night``) the number of its ``images``, of ``objects`` with an attribute's value, and the
        metric; without the metric where there are fewer than LEAST images or objects, or the trainer measures no samples.
    """
    slices: dict[str, dict[str, float]] = {}
    order = [names.get(path, "") for path in evaluation.files]
    for each in found:
        for value in each.slices():
            holds = np.array([value in each.values.get(name, ()) for name in order], int)
            images = sum(value in values for values in each.values.values())
            counts = {"images": float(images)}
            if each.field.column == "attributes":
                counts["objects"] = float(sum(list(values).count(value) for values in each.values.values()))
            if min(counts.values()) >= LEAST and evaluation.resampled is not None and int(holds.sum()) == images:
                result = evaluation.resampled(metric, holds)
                if result is not None and np.isfinite(result):
                    counts[metric] = float(result)
            slices[f"{each.field}={value}"] = counts
    return slices
