"""Writes canonical annotations as COCO: a JSON file for each split, and the images below ``images/`` under their own names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.keypoints import mirrored
from visionloop.data.annotations.tables import HUNDREDTHS, SPLITS, Annotations, Whole, column
from visionloop.data.formats.coco.files import folder_of_images
from visionloop.data.formats.json_objects import box, free, keypoints, segmentation, without_none
from visionloop.data.formats.splits import stated_split
from visionloop.data.formats.written import Losses, Piece, Written, pieces, unsaid

_ENCODER = msgspec.json.Encoder()


def write(read: Annotations) -> Written:
    """The annotations as COCO; an id counts in all files.

    What it can't say: pairs of keypoints that a mirror swaps, images of two splits, a dataset's id.

    Raises:
        InvalidConfig: For classification.
        InvalidDataset: If names are such that COCO's reader would take one image for another.
    """
    if read.task == "classification":
        raise InvalidConfig("COCO holds no labels of whole images; choose --format folders for classification.")
    losses = Losses()
    losses.add(
        len(read.shared),
        "image is",
        "images are",
        "of val and of test, and COCO gives an image to one file: it is of val",
    )
    if read.task == "pose":
        other = [entry for entry in read.classes if entry.flip_pairs != mirrored(entry.keypoints or ())]
        losses.add(
            len(other),
            "class has",
            "classes have",
            "pairs of keypoints that its names don't tell: COCO does not hold them",
        )
    else:
        # A file with keypoints is one for pose, and would be passed over.
        unsaid(read, losses, f"COCO for {read.task}", "keypoints")
    names = read.images["file_name"].to_pylist()
    stated = np.array([split or "" for split in read.images["split"].to_pylist()])
    keys = [f"images/{name}" for name in names]
    files = []
    for split in (*SPLITS, ""):
        rows = np.flatnonzero(stated == split)
        if len(rows):
            file = _name(read.task, split)
            _check_folder(keys, file, [names[row] for row in rows[:100]])
            _count_without_keypoints(read, rows, file, losses)
            files.append((file, _file(read, rows)))
    return Written(list(enumerate(keys)), files, losses)


def _name(task: str, split: str) -> str:
    kind = "person_keypoints" if task == "pose" else "instances"
    return f"annotations/{kind}_{split}.json" if split else f"annotations/{kind}.json"


def _check_folder(keys: Sequence[str], file: str, names: Sequence[str]) -> None:
    """Raises InvalidDataset if the images of a file would be looked for elsewhere than below ``images/``."""
    words = stated_split(file)
    folder = folder_of_images(pa.chunked_array([pa.array(keys, pa.string())]), file, words[1] if words else (), names)
    if folder != "images/":
        raise InvalidDataset(
            f"{file}: COCO's readers would take {folder}{names[0]} for images/{names[0]}; rename one of the two images."
        )


def _count_without_keypoints(read: Annotations, rows: Whole, file: str, losses: Losses) -> None:
    if read.task != "pose":
        return
    posed = np.unique(column(read.objects, "image")[np.asarray(read.objects["keypoints"].is_valid())])
    if not np.isin(rows, posed).any():
        losses.add(
            len(rows),
            "image lies",
            "images lie",
            f"in {file}, where no object has keypoints: read for pose it is passed over",
        )


def _only(read: Annotations, rows: Whole) -> tuple[Annotations, Whole]:
    """Some images with their objects, and the rows of these objects."""
    image = column(read.objects, "image")
    chosen = np.flatnonzero(np.isin(image, rows))
    objects = read.objects.take(pa.array(chosen))
    renumbered = np.searchsorted(rows, image[chosen]).astype(np.int32)
    objects = objects.set_column(0, objects.schema.field(0), pa.array(renumbered))
    return replace(read, images=read.images.take(pa.array(rows)), objects=objects), chosen


def _file(read: Annotations, rows: Whole) -> Iterator[bytes]:
    """The parts of the file with the images in some rows: images, annotations and categories, an entry a line.

    An image's id is its row, an annotation's that of the object, each counted from 1 over all files.
    """
    some, numbers = _only(read, rows)
    begin = 0
    bodies = []
    for piece in pieces(some):
        bodies.append((piece, begin))
        begin += len(piece.objects)
    yield from document(
        read.metadata.get("dataset_name"),
        (images_of(piece, rows) for piece in pieces(some)),
        (labels_of(piece, read.task, rows, numbers[start:]) for piece, start in bodies),
        read.classes,
    )


def document(
    name: str | None,
    images: Iterable[Iterable[dict[str, Any]]],
    labels: Iterable[Iterable[dict[str, Any]]],
    classes: Sequence[Class],
) -> Iterator[bytes]:
    """The parts of a file, an entry a line.

    Args:
        name: What the dataset is called.
        images: The images, in batches.
        labels: The objects, in batches.
        classes: The classes.
    """
    yield b'{"info":' + _ENCODER.encode(without_none(description=name)) + b',"licenses":[],"images":['
    yield from _entries(images)
    yield b'],"annotations":['
    yield from _entries(labels)
    yield b'],"categories":['
    yield from _entries([[_category(entry) for entry in classes]])
    yield b"]}\n"


def _entries(batches: Iterable[Iterable[dict[str, Any]]]) -> Iterator[bytes]:
    """Elements of a list, one a line."""
    separator = b"\n"
    for batch in batches:
        if lines := [_ENCODER.encode(entry) for entry in batch]:
            yield separator + b",\n".join(lines)
            separator = b",\n"
    yield b"\n"


def images_of(piece: Piece, rows: Whole) -> Iterator[dict[str, Any]]:
    """The images of a piece as COCO has them; ``rows`` are those of all images, by which they are numbered."""
    for row, image in enumerate(piece.images.to_pylist(), piece.first):
        yield without_none(
            id=int(rows[row]) + 1,
            file_name=image["file_name"],
            width=image["width"],
            height=image["height"],
            metadata=free(image["metadata"]),
        )


def labels_of(piece: Piece, task: str, rows: Whole, numbers: Whole) -> Iterator[dict[str, Any]]:
    """The objects of a piece; ``numbers`` are those of the piece's objects."""
    objects = zip(piece.image.tolist(), piece.objects.to_pylist(), numbers.tolist(), strict=False)
    for image, row, number in objects:
        outline = segmentation(row)
        posed = keypoints(row) if task == "pose" else None
        yield without_none(
            id=number + 1,
            image_id=int(rows[piece.first + image]) + 1,
            category_id=row["class_id"],
            bbox=box(row) or _bounds(row),
            area=_area(row),
            iscrowd=int(row["iscrowd"]),
            segmentation=[] if outline is None else outline,
            keypoints=posed,
            num_keypoints=None if posed is None else sum(value > 0 for value in posed[2::3]),
            attributes=free(row["attributes"]),
        )


def _bounds(row: dict[str, Any]) -> list[float] | None:
    """The box around an object's polygons: COCO's tools need one."""
    points = [value for polygon in row["polygons"] or () for value in polygon]
    if not points:
        return None
    left, top = min(points[::2]), min(points[1::2])
    return [value / HUNDREDTHS for value in (left, top, max(points[::2]) - left, max(points[1::2]) - top)]


def _area(row: dict[str, Any]) -> float | None:
    """The area that is stated, else that of the polygons, else the box's, in square pixels."""
    if row["area"] is not None:
        return float(row["area"])
    if row["polygons"]:
        return sum(_enclosed(polygon) for polygon in row["polygons"])
    return None if row["width"] is None else row["width"] * row["height"] / HUNDREDTHS**2


def _enclosed(polygon: Sequence[int]) -> float:
    """A polygon's area by the formula of its corners, in square pixels."""
    x, y = np.array(polygon[::2], np.float64), np.array(polygon[1 : len(polygon) : 2], np.float64)
    if len(x) != len(y):
        return 0.0
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2 / HUNDREDTHS**2


def _category(entry: Class) -> dict[str, Any]:
    return without_none(
        id=entry.id,
        name=entry.name,
        supercategory=entry.supercategory,
        color=entry.color,
        keypoints=entry.keypoints,
        skeleton=entry.skeleton,
    )
