"""The labels of a split in a dataset folder, as arrays: what a trainer needs that does not read YOLO's text itself."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import InvalidDataset, InvalidReceipt
from visionloop.core.memory import uncollected
from visionloop.data import view

#: Numbers of a box's line: class, centre, width and height.
_BOX = 5

#: How many label files are parsed at once.
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Labels:
    """The N objects of an image; coordinates are shares of its width and height.

    Attributes:
        classes: N whole numbers.
        boxes: N × 4: x1, y1, x2, y2.
        polygons: For segmentation the outline of each, corners × 2.
        keypoints: For pose N × K × 3: x, y, and 0 where it is not labelled.
    """

    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    polygons: Sequence[NDArray[np.float32]] = ()
    keypoints: NDArray[np.float32] | None = None


def files_below(folder: Path) -> list[str]:
    """The files below a folder, sorted as paths are: part by part. Texts: a Path each takes a million files half a minute."""
    files = [f"{parent}/{name}" for parent, _, names in os.walk(folder) for name in names]
    return sorted(files, key=lambda file: file.split("/"))


def paths_in(folder: Path, files: Iterable[str]) -> list[str]:
    """The paths of files in a dataset folder: ``images/test/a.png``."""
    return [os.path.relpath(file, folder) for file in files]


def images(folder: Path, split: str) -> list[str]:
    """The images of a split, sorted as paths are.

    Raises:
        InvalidDataset: If there is no image.
    """
    root = folder / "images" / split
    files = files_below(root)
    if not files:
        raise InvalidDataset(f"{root} has no image: give the split {split} at least one.")
    return files


def read(folder: Path, split: str, files: Sequence[str], task: str, keypoints: int = 0) -> list[Labels]:
    """The labels of a split's images, in the images' order.

    Args:
        folder: Folder with ``images/{split}/…`` and ``labels/{split}/…``, or with all labels in one archive.
        split: The split.
        files: What `images` returned.
        task: ``detection``, ``segmentation`` or ``pose``.
        keypoints: For pose the number of keypoints.

    Raises:
        InvalidReceipt: If an archive's label is not as convert writes it, or an image has none.
        InvalidDataset: If a folder's label file can't be read as labels.
    """
    start = len(f"{folder / 'images'}/")
    names = [f"{file[start:].rpartition('.')[0]}.txt" for file in files]
    if not view.has_labels(folder):
        return _read_files(folder / "labels", names, task, keypoints)
    labels: dict[str, Labels] = {}
    texts = view.read_labels(folder, split)
    with uncollected():
        while batch := dict(itertools.islice(texts, _AT_ONCE)):
            try:
                parsed = _parse_all([*batch.values()], task, keypoints)
            except ValueError:
                parsed = [_parse_archived(name, text, task, keypoints) for name, text in batch.items()]
            labels |= zip(batch, parsed, strict=True)
    try:
        return [labels.pop(f"labels/{name}") for name in names]
    except KeyError as error:
        inner = str(error.args[0]).removeprefix("labels/")
        raise InvalidReceipt(f"{view.LABELS}: {inner} has no label; run again with --force convert.") from None


def _read_files(folder: Path, names: Sequence[str], task: str, keypoints: int) -> list[Labels]:
    """The labels of a folder that a person made: an image without a file has no object."""
    labels = []
    for name in names:
        try:
            labels.append(parse((folder / name).read_bytes(), task, keypoints))
        except FileNotFoundError:
            labels.append(parse(b"", task, keypoints))
        except ValueError as error:
            raise InvalidDataset(f"labels/{name}: {error}; correct it, or remove it.") from error
    return labels


def _parse_archived(name: str, text: bytes, task: str, keypoints: int) -> Labels:
    try:
        return parse(text, task, keypoints)
    except ValueError as error:
        inner = name.removeprefix("labels/")
        raise InvalidReceipt(
            f"{view.LABELS}: {inner} is not what convert writes; run again with --force convert."
        ) from error


def _parse_all(texts: Sequence[bytes], task: str, keypoints: int) -> list[Labels]:
    """As ``parse`` for each of convert's texts; those of one width a line all at once, in a tenth of the time. Raises ValueError."""
    if task == "segmentation":
        return [parse(text, task, keypoints) for text in texts]
    width = _width(task, keypoints)
    counts = np.fromiter((text.count(b"\n") for text in texts), np.int64, len(texts))
    joined = b"".join(texts)
    if any(line.count(b" ") != width - 1 for line in joined.split(b"\n")[:-1]):
        raise ValueError(f"a line that has not {width} numbers")
    values = _numbers(joined).reshape(int(counts.sum()), width)
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    every = _objects(values, task, keypoints)
    ends = counts.cumsum()
    parts = (slice(*bounds) for bounds in zip((ends - counts).tolist(), ends.tolist(), strict=True))
    points = every.keypoints
    return [
        Labels(every.classes[part], every.boxes[part], (), None if points is None else points[part]) for part in parts
    ]


def parse(text: bytes, task: str, keypoints: int = 0) -> Labels:
    """The labels of an image from YOLO's text. Raises ValueError with what is wrong."""
    rows = [_numbers(line) for line in text.splitlines() if line.strip()]
    if any(not np.isfinite(row).all() for row in rows):
        raise ValueError("a number that is not finite")
    if task == "segmentation":
        classes = _classes(np.array([row[0] for row in rows], np.float32))
        if any(len(row) < 7 or len(row) % 2 == 0 for row in rows):
            raise ValueError("a line that is not a class and the corners of an outline")
        polygons = [row[1:].reshape(-1, 2) for row in rows]
        around = [np.concatenate([corners.min(0), corners.max(0)]) for corners in polygons]
        return Labels(classes, np.array(around, np.float32).reshape(-1, 4), polygons)
    width = _width(task, keypoints)
    if any(len(row) != width for row in rows):
        # A class that is none is told first.
        _classes(np.array([row[0] for row in rows], np.float32))
        raise ValueError(f"a line that has not {width} numbers")
    return _objects(np.array(rows, np.float32).reshape(-1, width), task, keypoints)


def _objects(values: NDArray[np.float32], task: str, keypoints: int) -> Labels:
    """N objects of detection or pose from the numbers of a line each. Raises ValueError."""
    half = values[:, 3:5] / 2
    boxes = np.concatenate([values[:, 1:3] - half, values[:, 1:3] + half], axis=1)
    points = values[:, _BOX:].reshape(len(values), keypoints, 3) if task == "pose" else None
    return Labels(_classes(values[:, 0]), boxes, (), points)


def _classes(numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Raises ValueError if one is not a whole number from 0."""
    classes = numbers.astype(np.int64)
    if (classes != numbers).any() or (classes < 0).any():
        raise ValueError("a class that is not a whole number")
    return classes


def _width(task: str, keypoints: int) -> int:
    """How many numbers a line of detection or pose has."""
    return _BOX + 3 * keypoints if task == "pose" else _BOX


def _numbers(text: bytes) -> NDArray[np.float32]:
    """Numbers between white space. Raises ValueError."""
    return np.array(text.split(), np.float64).astype(np.float32)
