"""The canonical annotations as the labels that trainers read: YOLO text lines, ImageFolder classes, and safe file names.

YOLO lines are those of https://docs.ultralytics.com/datasets/: class index, then x and y divided by the image's width and
height, six significant digits.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.border import inside
from visionloop.data.annotations.images import Annotation, Image, images, objects_of
from visionloop.data.annotations.tables import BOX, HUNDREDTHS, Annotations, Whole, column, offsets
from visionloop.data.sentences import printable

#: Longest name of a folder or file in bytes; most file systems take 255, and a label's suffix must fit too.
LONGEST_NAME = 200

#: Names that Windows reserves, whatever their extension.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

#: Trainers find a label by replacing the last folder ``images`` of a path by ``labels``, and skip hidden files.
_MARKED = frozenset({"images", "labels"})

#: Why an object becomes no label. ``unusable`` is what validate refuses: no box, no polygon, a class that is not there.
Reason = Literal["crowd", "no area", "outside", "no keypoint", "repeated", "unusable"]

#: Mixes the numbers of rows, so that equal sums of unequal rows are rare (the multiplier of Knuth's MMIX).
_ODD = np.uint64(6364136223846793005)

#: How many images' labels are made at once.
_IMAGES_AT_ONCE = 5_000

#: How many distances between the points of two polygons are held at once.
_DISTANCES = 2**20

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?").fullmatch
#: A name whose parts all stay as they are, and parts that may not.
_PLAIN_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?(/[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?)*$"
_MARKED_PART = r"(^|/)(images|labels|con|prn|aux|nul|com[0-9]|lpt[0-9])(\.[^/]*)?(/|$)"

_UNSAFE = frozenset('<>:"|?*\\%/')


def class_order(dataset: Annotations) -> tuple[str, ...]:
    """Class names by class index: in the order of class ids, which need not be dense."""
    return tuple(class_.name for class_ in sorted(dataset.classes, key=lambda class_: class_.id))


def class_index(dataset: Annotations) -> dict[int, int]:
    """Class index by class id, in the order of ``class_order``."""
    return {key: index for index, key in enumerate(sorted(class_.id for class_ in dataset.classes))}


def class_folders(dataset: Annotations) -> dict[int, str]:
    """A safe ImageFolder name by class id, whose alphabetical order is that of ``class_order``: ``00001_car``."""
    names = class_order(dataset)
    return {key: class_folder(index, names[index]) for key, index in class_index(dataset).items()}


def class_folder(index: int, name: str) -> str:
    """The folder of a class in an ImageFolder."""
    return f"{index:05d}_{_safe(name)}"


def keypoint_shape(dataset: Annotations) -> tuple[int, int] | None:
    """Number of keypoints and of values for each (3: x, y, visibility) for data.yaml; None without keypoints."""
    named = next((len(class_.keypoints) for class_ in dataset.classes if class_.keypoints), None)
    if named is None:
        counts = pc.list_value_length(dataset.objects["keypoints"]).drop_null()
        named = next((count // 3 for count in pc.unique(counts).to_pylist() if count), None)
    return None if named is None else (named, 3)


def keypoint_names(dataset: Annotations) -> tuple[str, ...] | None:
    """The keypoints' names in the order of a label; None for another task than pose.

    They are ``0``, ``1`` … where the dataset has none, or two of the same name: a prediction's keypoints are found by name.
    """
    shape = keypoint_shape(dataset) if dataset.task == "pose" else None
    if shape is None:
        return None
    named = next((class_.keypoints for class_ in dataset.classes if class_.keypoints), ())
    return named if len(set(named)) == shape[0] else tuple(map(str, range(shape[0])))


def flip_index(dataset: Annotations) -> tuple[int, ...] | None:
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
    """An object that becomes no label: its index among its image's annotations, why, and the index of the one that it repeats."""

    index: int
    reason: Reason
    repeats: int | None = None


def yolo_rows(
    image: Image, task: str, class_index: Mapping[int, int]
) -> tuple[dict[tuple[float, ...], int], list[LeftOut]]:
    """An image's labels as numbers, each with the index of its annotation, and the objects that become none.

    Args:
        image: The image with its annotations.
        task: ``detection``, ``segmentation`` or ``pose``.
        class_index: Class index by class id.
    """
    rows: dict[tuple[float, ...], int] = {}
    left_out: list[LeftOut] = []
    for index, annotation in enumerate(image.annotations):
        if annotation.iscrowd:
            left_out.append(LeftOut(index, "crowd"))
            continue
        if annotation.class_id not in class_index or image.width is None or image.height is None:
            left_out.append(LeftOut(index, "unusable"))
            continue
        values = _values(annotation, task, image.width, image.height)
        if isinstance(values, str):
            left_out.append(LeftOut(index, values))
            continue
        first = rows.setdefault((class_index[annotation.class_id], *values), index)
        if first != index:
            left_out.append(LeftOut(index, "repeated", first))
    return rows, left_out


def yolo_labels(read: Annotations, rows: npt.NDArray[np.integer[Any]]) -> Iterator[str]:
    """The YOLO label file of each image: one line per object, sorted, so that equal content gives equal labels.

    Detection: class, centre x, centre y, width, height. Segmentation: class, x1, y1, x2, y2 …, an object's polygons joined
    into one. Pose: the box, then x, y, visibility of each keypoint. All are clipped to the image. Left out are crowd regions,
    boxes without width or height, exact duplicates, for segmentation objects without a polygon, and for pose objects
    without any labelled keypoint.

    Args:
        read: The annotations of detection, segmentation or pose.
        rows: The rows of the images; the labels come in this order.

    Raises:
        InvalidDataset: If an object's class id has no index.
    """
    _refuse_unknown_classes(read, rows)
    if read.task == "detection":
        yield from _box_labels(read, rows)
        return
    index = class_index(read)
    for image in images(read, rows):
        lines, _ = yolo_rows(image, read.task, index)
        yield "".join(sorted(" ".join(f"{value:g}" for value in line) + "\n" for line in lines))


def _refuse_unknown_classes(read: Annotations, rows: npt.NDArray[np.integer[Any]]) -> None:
    labelled = np.zeros(len(read.images), bool)
    labelled[rows] = True
    image, class_id = column(read.objects, "image"), column(read.objects, "class_id")
    allowed = np.isin(class_id, [entry.id for entry in read.classes]) | np.asarray(read.objects["iscrowd"])
    for row in np.flatnonzero(labelled[image] & ~allowed)[:1].tolist():
        name = printable(read.images["file_name"][int(image[row])].as_py())
        raise InvalidDataset(
            f"{name}: class_id {class_id[row]} is not a class of the dataset; correct the label or add the class."
        )


@dataclass(frozen=True)
class Boxes:
    """The boxes of some objects, clipped to their images, in hundredths of a pixel.

    Attributes:
        left, top, right, bottom: The corners; they mean nothing where an object becomes no label.
        reason: By object, the index in BOX_REASONS of why it becomes no label; -1 where it becomes one.
    """

    left: Whole
    top: Whole
    right: Whole
    bottom: Whole
    reason: npt.NDArray[np.int8]


#: Why a box becomes no label, in the order in which it is asked.
BOX_REASONS: tuple[Reason, ...] = ("crowd", "unusable", "no area", "outside")


def clipped_boxes(read: Annotations, objects: pa.Table) -> Boxes:
    """The boxes of some of a dataset's objects, all at once; the same as ``yolo_rows`` finds one by one."""
    of = read.images.select(["width", "height"]).take(objects["image"])
    size = [column(of, name) * HUNDREDTHS for name in ("width", "height")]
    x, y, across, down = (column(objects, name) for name in BOX)
    left, top = np.maximum(x, 0), np.maximum(y, 0)
    right, bottom = np.minimum(x + across, size[0]), np.minimum(y + down, size[1])
    of_class = np.isin(column(objects, "class_id"), [entry.id for entry in read.classes])
    absent = np.asarray(objects["x"].combine_chunks().is_null())
    conditions = [
        np.asarray(objects["iscrowd"].combine_chunks()),
        ~of_class | absent | (size[0] == 0) | (size[1] == 0),
        (across <= 0) | (down <= 0),
        (right <= left) | (bottom <= top),
    ]
    reason = np.select(conditions, range(len(conditions)), -1).astype(np.int8)
    return Boxes(left, top, right, bottom, reason)


def _box_labels(read: Annotations, rows: npt.NDArray[np.integer[Any]]) -> Iterator[str]:
    """The labels of detection, some thousand images at a time."""
    bounds = offsets(read)
    rank = np.array(sorted(entry.id for entry in read.classes), np.int64)
    widths, heights = (column(read.images, name).astype(np.float64) for name in ("width", "height"))
    for first in range(0, len(rows), _IMAGES_AT_ONCE):
        chosen = rows[first : first + _IMAGES_AT_ONCE]
        at, counts = objects_of(bounds, chosen)
        objects = read.objects.take(pa.array(at)).combine_chunks()
        boxes = clipped_boxes(read, objects)
        owner = np.repeat(np.arange(len(chosen)), counts)
        kept = np.flatnonzero(boxes.reason < 0)
        owner, image = owner[kept], column(objects, "image")[kept]
        # In pixels first, so that the numbers are those of each object by itself.
        left, top, right, bottom = (getattr(boxes, name)[kept] for name in ("left", "top", "right", "bottom"))
        x, y, across, down = (values / HUNDREDTHS for values in (left, top, right - left, bottom - top))
        width, height = widths[image], heights[image]
        values = ((x + across / 2) / width, (y + down / 2) / height, across / width, down / height)
        numbers = np.searchsorted(rank, column(objects, "class_id")[kept])
        columns = (numbers.tolist(), *(part.tolist() for part in values))
        lines = [f"{number} {a:g} {b:g} {c:g} {d:g}\n" for number, a, b, c, d in zip(*columns, strict=True)]
        # Equal numbers are a repetition; equal lines of unequal numbers are two labels.
        table = np.stack([numbers, left, top, right, bottom], axis=1)
        repeating = set(owners_of_repetitions(owner, *table.T).tolist())
        ends = np.searchsorted(owner, np.arange(len(chosen) + 1)).tolist()
        for image_index, (begin, end) in enumerate(itertools.pairwise(ends)):
            if image_index not in repeating:
                yield "".join(sorted(lines[begin:end]))
                continue
            distinct = {tuple(row): line for row, line in zip(table[begin:end].tolist(), lines[begin:end], strict=True)}
            yield "".join(sorted(distinct.values()))


def owners_of_repetitions(owner: Whole, *columns: Whole) -> Whole:
    """The owners, in ascending order, of which two rows are equal in all columns; perhaps a few others by chance."""
    mixed = owner.astype(np.uint64)
    for values in columns:
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _ODD + values.astype(np.uint64)
    order = np.argsort(mixed, kind="stable")
    alike = order[1:][mixed[order[1:]] == mixed[order[:-1]]]
    return np.unique(owner[alike])


def _values(annotation: Annotation, task: str, width: int, height: int) -> tuple[float, ...] | Reason:
    """The numbers of an object's label behind its class, or why it has none."""
    if task == "segmentation":
        return _polygon(annotation, width, height)
    box = _box(annotation, width, height)
    if task != "pose" or isinstance(box, str):
        return box
    keypoints = _keypoints(annotation, width, height)
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
    names = sorted(file_names)
    if _stay(names):
        return dict(zip(names, names, strict=True))
    safe = {name: "/".join(map(_safe, name.split("/"))) for name in names}
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


def _stay(names: Sequence[str]) -> bool:
    """Whether no name has to be changed, checked for all at once; False also where that is not certain."""
    array = pa.array(names, pa.string())
    if not (pc.all(pc.match_substring_regex(array, _PLAIN_NAME)).as_py() and len(names)):
        return False
    if pc.any(pc.match_substring_regex(array, _MARKED_PART, ignore_case=True)).as_py():
        return False
    if pc.max(pc.utf8_length(array)).as_py() > LONGEST_NAME:
        return False
    # Only ASCII is left, in which lower case is the folded one.
    lower = pc.utf8_lower(array)
    stems = pc.replace_substring_regex(lower, r"\.[^./]*$", "")
    folders = set(pc.unique(pc.replace_substring_regex(lower, r"/?[^/]*$", "")).to_pylist())
    for folder in list(folders):
        parts = folder.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    files = (lower, stems, pc.binary_join_element_wise(stems, ".txt", ""))
    taken = pa.array(list(folders), pa.string())
    return pc.count_distinct(stems).as_py() == len(names) and not any(
        pc.any(pc.is_in(candidates, taken)).as_py() for candidates in files
    )


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


def _box(annotation: Annotation, width: int, height: int) -> tuple[float, ...] | Reason:
    """Centre x, centre y, width, height as fractions of the image's size, or why nothing of the box is left."""
    if annotation.bbox is None:
        return "unusable"
    # In whole hundredths, so that clipping rounds nothing.
    x, y, across, down = (round(value * HUNDREDTHS) for value in annotation.bbox)
    if across <= 0 or down <= 0:
        return "no area"
    left, right = max(x, 0), min(x + across, width * HUNDREDTHS)
    top, bottom = max(y, 0), min(y + down, height * HUNDREDTHS)
    if right <= left or bottom <= top:
        return "outside"
    begins, above, wide, high = (value / HUNDREDTHS for value in (left, top, right - left, bottom - top))
    return ((begins + wide / 2) / width, (above + high / 2) / height, wide / width, high / height)


def _keypoints(annotation: Annotation, width: int, height: int) -> tuple[float, ...] | Reason:
    """x, y as fractions and visibility of each keypoint, or why there are none; one outside the image is not labelled, 0 0 0."""
    values = annotation.keypoints
    if not values or len(values) % 3:
        return "unusable"
    result: list[float] = []
    for x, y, visibility in zip(values[::3], values[1::3], values[2::3], strict=True):
        if visibility and inside(width, height, x, y):
            result += [min(max(x, 0.0), width) / width, min(max(y, 0.0), height) / height, visibility]
        else:
            result += [0.0, 0.0, 0.0]
    return tuple(result) if any(result[2::3]) else "no keypoint"


def _polygon(annotation: Annotation, width: int, height: int) -> tuple[float, ...] | Reason:
    """An object's outline as fractions of the image's size, or why there is none."""
    if annotation.bbox is not None and min(annotation.bbox[2:]) <= 0 and annotation.polygons:
        return "no area"
    size = np.array([width, height], dtype=np.float64)
    usable = [polygon for polygon in annotation.polygons if len(polygon) >= 6 and not len(polygon) % 2]
    if not usable:
        return "unusable"
    points = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in usable]
    outline = _joined(_union([polygon.clip(0, size) for polygon in points]))
    if (np.ptp(outline, axis=0) <= 0).any():
        every = np.concatenate(points)
        return "no area" if (every.max(axis=0) <= every.min(axis=0)).any() else "outside"
    return tuple((outline / size).reshape(-1).tolist())


def _union(polygons: list[np.ndarray]) -> list[np.ndarray]:
    """Polygons that can be joined: what two of them enclose would count as outside, so the outline of their union is taken."""
    if len(polygons) == 1:
        return polygons
    # What draws outlines is slow to load.
    from visionloop.data.annotations.masks import united

    parts, overlapped = united([np.rint(polygon * HUNDREDTHS).astype(np.int64) for polygon in polygons])
    return [part / HUNDREDTHS for part in parts] if overlapped else polygons


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
