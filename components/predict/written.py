"""Predictions as a dataset for people to review: COCO's JSON, or DICE's with ``attributes.predicted``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from visionloop.components.predict.table import Found, read
from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import Whole, hundredths, images_table, objects_table
from visionloop.data.formats.coco import writer as coco_writer
from visionloop.data.formats.dice import writer as dice_writer
from visionloop.data.formats.written import Piece

#: What ``--write`` takes.
COCO, DICE = FORMATS = ("coco", "dice")

#: How many images are put into the file at once.
AT_ONCE = 1_000

#: The visibility of a keypoint that a model sees.
_VISIBLE = 2

_ENCODER = msgspec.json.Encoder()


def parse_write(text: str | None) -> tuple[str, ...]:
    """The formats that are asked for, in the order of FORMATS. Raises InvalidConfig."""
    wanted = {word.strip().lower() for word in (text or "").split(",")} - {""}
    if unknown := sorted(wanted - set(FORMATS)):
        raise InvalidConfig(f"--write {unknown[0]:.80}: give {' or '.join(FORMATS)}, or both with a comma between.")
    return tuple(name for name in FORMATS if name in wanted)


def check_write(formats: Sequence[str], task: str) -> None:
    """Refuses a format that can't hold a task's predictions. Raises InvalidConfig."""
    if task == "classification" and COCO in formats:
        raise InvalidConfig(f"--write {COCO}: COCO holds no classes of whole images; leave it out, or give {DICE}.")


def classes_of(names: Sequence[str], keypoints: Sequence[str]) -> list[Class]:
    """A model's classes; their ids are the class numbers of the predictions."""
    points = tuple(keypoints) or None
    return [Class(id=index, name=name, keypoints=points) for index, name in enumerate(names)]


def coco(tables: Sequence[Path], task: str, classes: Sequence[Class], name: str) -> Iterator[bytes]:
    """The parts of COCO's JSON. Each object has its ``score``; of an object with holes the outlines alone are there.

    Args:
        tables: The predictions.
        task: The model's task.
        classes: Its classes.
        name: What the dataset is called.
    """

    def images() -> Iterator[Iterable[dict[str, Any]]]:
        for piece in _pieces(tables):
            yield coco_writer.images_of(replace(piece, first=0), _numbers(piece.first, len(piece.images)))

    def labels() -> Iterator[Iterable[dict[str, Any]]]:
        number = 0
        for piece in _pieces(tables):
            rows, numbers = _numbers(piece.first, len(piece.images)), _numbers(number, len(piece.objects))
            entries = coco_writer.labels_of(replace(piece, first=0), task, rows, numbers)
            scores = (msgspec.json.decode(text)["confidence"] for text in piece.objects["attributes"].to_pylist())
            yield ({**entry, "score": score} for entry, score in zip(entries, scores, strict=True))
            number += len(piece.objects)

    return coco_writer.document(name, images(), labels(), classes)


def dice(tables: Sequence[Path], task: str, classes: Sequence[Class], name: str, content: str) -> Iterator[bytes]:
    """The parts of DICE's annotation file. Of a whole image the likeliest class alone is its label.

    Args:
        tables: The predictions.
        task: The model's task.
        classes: Its classes.
        name: What the dataset is called.
        content: A SHA-256 in hex of what the predictions depend on.
    """
    yield dice_writer.head(dice_writer.identity_of(content), name, task, classes)
    names = {entry.id: entry.name for entry in classes}
    number, separator = 0, b"\n"
    for piece in _pieces(tables):
        yield separator + b",\n".join(_ENCODER.encode(image) for image in dice_writer.images_of(piece, names, number))
        separator = b",\n"
        number += len(piece.objects)
    yield dice_writer.END


def with_holes(tables: Sequence[Path]) -> int:
    """How many objects have holes, which the outlines of neither format hold."""
    return sum(bool(entry.get("holes")) for path in tables for found in read(path) for entry in found.predictions)


def _numbers(first: int, length: int) -> Whole:
    return np.arange(first, first + length, dtype=np.int64)


def _pieces(tables: Sequence[Path]) -> Iterator[Piece]:
    """The predictions in the tables of annotations, some images at a time."""
    left, first = chain.from_iterable(map(read, tables)), 0
    while some := list(islice(left, AT_ONCE)):
        yield _piece(some, first)
        first += len(some)


def _piece(some: Sequence[Found], first: int) -> Piece:
    labels = [(row, number, entry) for row, found in enumerate(some) for number, entry in enumerate(_labels(found))]
    image = np.array([row for row, _, _ in labels], np.int64)
    corners = hundredths(np.array([entry.get("box") or [np.nan] * 4 for _, _, entry in labels]).reshape(-1, 4))
    boxed = np.array(["box" in entry for _, _, entry in labels], bool)
    sides = {"x": corners[:, 0], "y": corners[:, 1]}
    sides |= {"width": corners[:, 2] - corners[:, 0], "height": corners[:, 3] - corners[:, 1]}
    objects = objects_table(
        image=image,
        position=[number for _, number, _ in labels],
        class_id=[entry["class_index"] for _, _, entry in labels],
        **{name: np.ma.masked_array(values, ~boxed).tolist() for name, values in sides.items()},
        polygons=[[_whole(polygon) for polygon in entry.get("polygons", ())] or None for _, _, entry in labels],
        keypoints=[_keypoints(entry) for _, _, entry in labels],
        attributes=[_attributes(entry) for _, _, entry in labels],
    )
    names = [found.file_name for found in some]
    images = images_table(
        file_name=names,
        key=[f"images/{name}" for name in names],
        width=[found.width for found in some],
        height=[found.height for found in some],
        position=list(range(len(some))),
    )
    return Piece(first, images, objects, image)


def _labels(found: Found) -> Sequence[Mapping[str, Any]]:
    """What is a label: every object, and of a whole image's classes the likeliest."""
    return found.predictions if found.predictions and "box" in found.predictions[0] else found.predictions[:1]


def _whole(values: Sequence[float]) -> list[int]:
    whole: list[int] = hundredths(np.array(values, np.float64)).tolist()
    return whole


def _keypoints(entry: Mapping[str, Any]) -> list[int] | None:
    points = entry.get("keypoints")
    if not points:
        return None
    return [value for x, y, _ in points.values() for value in (*_whole([x, y]), _VISIBLE)]


def _attributes(entry: Mapping[str, Any]) -> str:
    """Free values in canonical JSON."""
    return _ENCODER.encode({"confidence": entry["confidence"], "predicted": True}).decode()
