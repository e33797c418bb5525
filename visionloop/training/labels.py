"""The labels of a split in a dataset folder, as arrays: what a trainer needs that does not read YOLO's text itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import InvalidDataset, InvalidReceipt
from visionloop.data import view

#: Numbers of a box's line: class, centre, width and height.
_BOX = 5


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


def images(folder: Path, split: str) -> list[Path]:
    """The images of a split, sorted by path.

    Raises:
        InvalidDataset: If there is none.
    """
    root = folder / "images" / split
    files = sorted(Path(parent) / name for parent, _, names in os.walk(root) for name in names)
    if not files:
        raise InvalidDataset(f"{root} has no image: give the split {split} at least one.")
    return files


def read(folder: Path, split: str, files: Sequence[Path], task: str, keypoints: int = 0) -> list[Labels]:
    """The labels of a split's images, in the images' order.

    Args:
        folder: Folder with ``images/{split}/…`` and ``labels/{split}/…``, or with all labels in one archive.
        split: The split.
        files: What `images` returned.
        task: ``detection``, ``segmentation`` or ``pose``.
        keypoints: For pose the number of keypoints.

    Raises:
        InvalidReceipt: If a label is none that convert writes, or an image of an archive has none.
        InvalidDataset: If a label file of a folder is none.
    """
    archived = view.has_labels(folder)
    texts = dict(view.read_labels(folder, split)) if archived else {}
    found = []
    for file in files:
        inner = file.relative_to(folder / "images").with_suffix(".txt").as_posix()
        try:
            text = texts.pop(f"labels/{inner}") if archived else (folder / "labels" / inner).read_bytes()
            found.append(parse(text, task, keypoints))
        except FileNotFoundError:
            found.append(parse(b"", task, keypoints))  # of a folder: an image without an object
        except KeyError:
            raise InvalidReceipt(f"{view.LABELS}: {inner} has no label; run again with --force convert.") from None
        except ValueError as error:
            if archived:
                raise InvalidReceipt(
                    f"{view.LABELS}: {inner} is none that convert writes; run again with --force convert."
                ) from error
            raise InvalidDataset(f"labels/{inner}: {error}; correct it, or remove it.") from error
    return found


def parse(text: bytes, task: str, keypoints: int = 0) -> Labels:
    """The labels of an image from YOLO's text. Raises ValueError with what is wrong."""
    rows = [np.array(line.split(), np.float64).astype(np.float32) for line in text.splitlines() if line.strip()]
    if any(not np.isfinite(row).all() for row in rows):
        raise ValueError("a number that is not finite")
    classes = np.array([row[0] for row in rows], np.int64)
    if any(row[0] != index or index < 0 for row, index in zip(rows, classes, strict=True)):
        raise ValueError("a class that is not a whole number")
    if task == "segmentation":
        if any(len(row) < 7 or len(row) % 2 == 0 for row in rows):
            raise ValueError("a line that is not a class and the corners of an outline")
        polygons = [row[1:].reshape(-1, 2) for row in rows]
        around = [np.concatenate([corners.min(0), corners.max(0)]) for corners in polygons]
        return Labels(classes, _stacked(around, (4,)), polygons)
    width = _BOX + 3 * keypoints if task == "pose" else _BOX
    if any(len(row) != width for row in rows):
        raise ValueError(f"a line that has not {width} numbers")
    values = _stacked(rows, (width,))
    half = values[:, 3:5] / 2
    boxes = np.concatenate([values[:, 1:3] - half, values[:, 1:3] + half], axis=1)
    points = values[:, _BOX:].reshape(len(values), keypoints, 3) if task == "pose" else None
    return Labels(classes, boxes, (), points)


def _stacked(rows: Sequence[NDArray[np.float32]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(len(rows), *shape)
