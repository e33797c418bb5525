"""DICE annotations as the labels that trainers read: YOLO text lines, ImageFolder classes, and safe file names.

YOLO lines are those of https://docs.ultralytics.com/datasets/: class index, then x and y divided by the image's width and
height, six significant digits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visionloop.core.errors import InvalidDataset
from visionloop.data.dice.border import inside
from visionloop.data.dice.format import Annotation, Dataset, Image, RunLength, printable

#: Longest name of a folder or file in bytes; most file systems take 255, and a label's suffix must fit too.
LONGEST_NAME = 200

#: Names that Windows reserves, whatever their extension.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

#: Trainers find a label by replacing the last folder ``images`` of a path by ``labels``, and skip hidden files.
_MARKED = frozenset({"images", "labels"})

#: Why an object becomes no label. ``unusable`` is what validate refuses: no box, no polygon, a class that is not there.
Reason = Literal["crowd", "no area", "outside", "no keypoint", "repeated", "unusable"]

#: How many distances between the points of two polygons are held at once.
_DISTANCES = 2**20

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?").fullmatch
_UNSAFE = frozenset('<>:"|?*\\%/')


def class_order(dataset: Dataset) -> tuple[str, ...]:
    """Class names by class index: in the order of class ids, which need not be dense."""
    return tuple(class_.name for class_ in sorted(dataset.classes, key=lambda class_: class_.id))


def class_index(dataset: Dataset) -> dict[int, int]:
    """Class index by class id, in the order of ``class_order``."""
    return {key: index for index, key in enumerate(sorted(class_.id for class_ in dataset.classes))}


def class_folders(dataset: Dataset) -> dict[int, str]:
    """A safe ImageFolder name by class id, whose alphabetical order is that of ``class_order``: ``00001_car``."""
    names = class_order(dataset)
    return {key: f"{index:05d}_{_safe(names[index])}" for key, index in class_index(dataset).items()}


def keypoint_shape(dataset: Dataset) -> tuple[int, int] | None:
    """Number of keypoints and of values for each (3: x, y, visibility) for data.yaml; None without keypoints."""
    named = next((len(class_.keypoints) for class_ in dataset.classes if class_.keypoints), None)
    if named is None:
        every = (annotation.keypoints for image in dataset.images for annotation in image.annotations)
        named = next((len(values) // 3 for values in every if values), None)
    return None if named is None else (named, 3)


def flip_index(dataset: Dataset) -> tuple[int, ...] | None:
    """The index of each keypoint's counterpart in a mirrored image; None if no class has flip pairs, or they differ."""
    shape = keypoint_shape(dataset)
    pairs = {frozenset(frozenset(pair) for pair in class_.flip_pairs or ()) for class_ in dataset.classes}
    if shape is None or len(pairs) != 1 or not any(class_.flip_pairs for class_ in dataset.classes):
        return None
    indices = list(range(shape[0]))
    for first, second in next(class_.flip_pairs for class_ in dataset.classes if class_.flip_pairs):
        if not (0 <= first < len(indices) and 0 <= second < len(indices)):
            return None
        indices[first], indices[second] = second, first
    return tuple(indices)


@dataclass(frozen=True)
class LeftOut:
    """An object that becomes no label: its position among the image's annotations, why, and the one that it repeats."""

    position: int
    reason: Reason
    repeats: int | None = None


def yolo_rows(
    image: Image, task: str, class_index: Mapping[int, int]
) -> tuple[dict[tuple[float, ...], int], list[LeftOut]]:
    """An image's labels as numbers, each with the position of its annotation, and the objects that become none.

    Args:
        image: The image with its annotations.
        task: ``detection``, ``segmentation`` or ``pose``.
        class_index: Class index by class id.
    """
    rows: dict[tuple[float, ...], int] = {}
    left_out: list[LeftOut] = []
    for position, annotation in enumerate(image.annotations):
        if annotation.iscrowd:
            left_out.append(LeftOut(position, "crowd"))
            continue
        if annotation.class_id not in class_index:
            left_out.append(LeftOut(position, "unusable"))
            continue
        values = _values(image, annotation, task)
        if isinstance(values, str):
            left_out.append(LeftOut(position, values))
            continue
        first = rows.setdefault((class_index[annotation.class_id], *values), position)
        if first != position:
            left_out.append(LeftOut(position, "repeated", first))
    return rows, left_out


def yolo_label(image: Image, task: str, class_index: Mapping[int, int]) -> str:
    """An image's YOLO label file: one line per object, sorted, so that equal content gives equal labels.

    Detection: class, centre x, centre y, width, height. Segmentation: class, x1, y1, x2, y2 …, an object's polygons joined
    into one. Pose: the box, then x, y, visibility of each keypoint. All are clipped to the image. Left out are crowd regions,
    boxes without width or height, exact duplicates, for segmentation objects without a polygon, and for pose objects
    without any labelled keypoint.

    Args:
        image: The image with its annotations.
        task: ``detection``, ``segmentation`` or ``pose``.
        class_index: Class index by class id.

    Raises:
        InvalidDataset: If an annotation's class id has no index.
    """
    for annotation in image.annotations:
        if annotation.class_id not in class_index and not annotation.iscrowd:
            raise InvalidDataset(
                f"{printable(image.file_name)}: class_id {annotation.class_id} is no class of the dataset; "
                "correct the label or add the class."
            )
    rows, _ = yolo_rows(image, task, class_index)
    return "".join(sorted(" ".join(f"{value:g}" for value in row) + "\n" for row in rows))


def _values(image: Image, annotation: Annotation, task: str) -> tuple[float, ...] | Reason:
    """The numbers of an object's label behind its class, or why it has none."""
    if task == "segmentation":
        return _polygon(image, annotation)
    box = _box(image, annotation)
    if task != "pose" or isinstance(box, str):
        return box
    keypoints = _keypoints(image, annotation)
    return keypoints if isinstance(keypoints, str) else box + keypoints


def image_folder_class(image: Image) -> int:
    """The class id of a labelled classification image; the caller leaves out images without annotations.

    Raises:
        InvalidDataset: If it has labels of several classes, or none.
    """
    ids = sorted({annotation.class_id for annotation in image.annotations})
    if len(ids) != 1:
        shown = f"{len(ids)} classes ({', '.join(map(str, ids))})" if ids else "no class"
        raise InvalidDataset(
            f"{printable(image.file_name)}: the annotations give the image {shown}; keep exactly one label."
        )
    return ids[0]


def view_names(file_names: Iterable[str]) -> dict[str, str]:
    """A safe relative name for each image in a local view of a dataset.

    A name stays as it is unless a part of it is hidden, reserved, too long, a folder that trainers treat apart
    (``images``, ``labels``), or holds characters that a file system or a list file can't hold: those become ``%`` and the
    hex of their UTF-8 bytes; a part that is too long is cut and ends with 16 hex digits of its SHA-256. The extension stays.

    A label file is named after the image's stem, so stems are unique in a folder: of names that differ in the extension
    alone, the first in alphabetical order keeps its stem, the others get ``-`` and 8 hex digits of their SHA-256. So a
    name changes with the dataset only if such a neighbour is added or removed.
    """
    safe = {name: "/".join(map(_safe, name.split("/"))) for name in sorted(file_names)}
    folders: set[str] = set()
    for view in safe.values():
        parts = view.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    # Stems are compared case-insensitively, as some file systems do.
    folded = {folder.casefold() for folder in folders}
    taken: set[str] = set()
    views: dict[str, str] = {}
    for name, view in safe.items():
        stem, extension = _split_extension(view)
        digest = hashlib.sha256(name.encode()).hexdigest()
        candidate, digits = stem, 8
        while (
            candidate.casefold() in taken
            or f"{candidate}{extension}".casefold() in folded
            or f"{candidate}.txt".casefold() in folded
        ):
            candidate = f"{stem}-{digest[:digits]}"
            digits += 8
        taken.add(candidate.casefold())
        views[name] = candidate + extension
    return views


def _safe(part: str) -> str:
    """One folder or file name, escaped and cut."""
    if _PLAIN(part) and len(part) <= LONGEST_NAME and part not in _MARKED and not _RESERVED.fullmatch(part):
        return part
    first = part in _MARKED or bool(_RESERVED.fullmatch(part)) or part[:1] in (".", " ", "-", "~")
    last = part[-1:] in (".", " ")
    escaped = "".join(
        _percent(character)
        if (first and index == 0) or (last and index == len(part) - 1) or not _safe_character(character)
        else character
        for index, character in enumerate(part)
    )
    if len(escaped.encode()) > LONGEST_NAME:
        stem, extension = _split_extension(escaped)
        if len(extension.encode()) > 16:
            stem, extension = escaped, ""
        mark = f"-{hashlib.sha256(part.encode()).hexdigest()[:16]}"
        room = LONGEST_NAME - len(mark) - len(extension.encode())
        escaped = stem.encode()[:room].decode(errors="ignore") + mark + extension
    return escaped


def _safe_character(character: str) -> bool:
    return character.isprintable() and character not in _UNSAFE


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _split_extension(name: str) -> tuple[str, str]:
    """Stem (with its folders) and extension (with its dot) of a name."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    return (f"{folder}{slash}{stem}", dot + extension) if stem else (name, "")


def _box(image: Image, annotation: Annotation) -> tuple[float, ...] | Reason:
    """Centre x, centre y, width, height as fractions of the image, or why nothing of the box is left."""
    if annotation.bbox is None:
        return "unusable"
    x, y, width, height = annotation.bbox
    if not (width > 0 and height > 0):
        return "no area"
    # A box inside the image keeps its numbers, so that nothing is rounded.
    if x < 0 or x + width > image.width:
        left, right = max(x, 0.0), min(x + width, float(image.width))
        x, width = left, right - left
    if y < 0 or y + height > image.height:
        top, bottom = max(y, 0.0), min(y + height, float(image.height))
        y, height = top, bottom - top
    if not (width > 0 and height > 0):
        return "outside"
    return (
        (x + width / 2) / image.width,
        (y + height / 2) / image.height,
        width / image.width,
        height / image.height,
    )


def _keypoints(image: Image, annotation: Annotation) -> tuple[float, ...] | Reason:
    """x, y as fractions and visibility of each keypoint, or why there are none; one outside the image is not labelled, 0 0 0."""
    values = annotation.keypoints
    if not values or len(values) % 3:
        return "unusable"
    result: list[float] = []
    for x, y, visibility in zip(values[::3], values[1::3], values[2::3], strict=True):
        if visibility and inside(image, x, y):
            result += [
                min(max(x, 0.0), image.width) / image.width,
                min(max(y, 0.0), image.height) / image.height,
                visibility,
            ]
        else:
            result += [0.0, 0.0, 0.0]
    return tuple(result) if any(result[2::3]) else "no keypoint"


def _polygon(image: Image, annotation: Annotation) -> tuple[float, ...] | Reason:
    """An object's outline as fractions of the image, or why there is none."""
    if annotation.segmentation is None or isinstance(annotation.segmentation, RunLength):
        return "unusable"
    if annotation.bbox is not None and min(annotation.bbox[2:]) <= 0:
        return "no area"
    size = np.array([image.width, image.height], dtype=np.float64)
    usable = [polygon for polygon in annotation.segmentation if len(polygon) >= 6 and not len(polygon) % 2]
    if not usable:
        return "unusable"
    points = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in usable]
    outline = _joined([polygon.clip(0, size) for polygon in points])
    if (np.ptp(outline, axis=0) <= 0).any():
        every = np.concatenate(points)
        return "no area" if (every.max(axis=0) <= every.min(axis=0)).any() else "outside"
    return tuple((outline / size).reshape(-1).tolist())


def _joined(polygons: list[np.ndarray]) -> np.ndarray:
    """Joins several polygons into one outline: each is connected, there and back, to the nearest point of those before it."""
    outline = polygons[0]
    for polygon in polygons[1:]:
        outline_index, polygon_index = _nearest(outline, polygon)
        turned = np.roll(polygon, -polygon_index, axis=0)
        outline = np.concatenate([outline[: outline_index + 1], turned, turned[:1], outline[outline_index:]])
    return outline


def _nearest(outline: np.ndarray, polygon: np.ndarray) -> tuple[int, int]:
    """The positions of the two nearest points, the first such pair in order; a part of the distances is held at once."""
    rows = max(1, _DISTANCES // len(polygon))
    nearest, least = (0, 0), np.inf
    for start in range(0, len(outline), rows):
        distances = ((outline[start : start + rows, None] - polygon[None]) ** 2).sum(axis=2)
        row, column = np.unravel_index(int(distances.argmin()), distances.shape)
        if distances[row, column] < least:
            nearest, least = (start + int(row), int(column)), float(distances[row, column])
    return nearest
