"""Writes canonical annotations as YOLO: a label file for each image, lists of the splits, and ``data.yaml``.

The images lie below ``images/`` under their own names, and lists name them, so that a name does not change with its split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.labels import view_names
from visionloop.data.annotations.tables import Annotations, Whole, column
from visionloop.data.formats.keys import stem
from visionloop.data.formats.written import (
    Chosen,
    Losses,
    Written,
    crowds,
    pieces,
    ranked,
    ranks,
    readable,
    renamed,
    rows_of_splits,
    side,
    unsaid,
    valid,
)
from visionloop.data.formats.yolo.lines import Rendering, by_image, digits_for, kept_rows, lines


def write(read: Annotations) -> Written:
    """The annotations as YOLO.

    What it can't say: images without a split or a size, crowds, attributes and free values, several polygons of one object,
    boxes that reach outside, names that other label files have.

    Raises:
        InvalidConfig: For classification.
    """
    if read.task == "classification":
        raise InvalidConfig(
            "YOLO's label files hold no labels of whole images; choose --format folders for classification."
        )
    losses = Losses()
    kept = readable(read, losses)
    names = read.images["file_name"].to_pylist()
    views = view_names(name for name, keep in zip(names, kept, strict=True) if keep)
    renamed(losses, list(views), views, "as label files are called by an image's stem")
    images = [(int(row), f"images/{views[names[row]]}") for row in np.flatnonzero(kept)]
    unsaid(read, losses, "YOLO", "attributes", "area", "metadata")
    if read.task == "detection":
        unsaid(read, losses, "YOLO for detection", "polygons", "mask", "keypoints")
    elif read.task == "segmentation":
        unsaid(read, losses, "YOLO for segmentation", "keypoints")
    return Written(images, _files(read, kept, dict(images), losses), losses)


def _files(
    read: Annotations, kept: Chosen, keys: Mapping[int, str], losses: Losses
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The label files, the lists, and data.yaml."""
    classes = ranked(read)
    number = _keypoints(classes, read) if read.task == "pose" else 0
    rendering = Rendering(read.task, number, digits_for(side(read.images)))
    for piece in pieces(read):
        sized = valid(piece.images, "width", "height")
        rank = ranks(classes, piece.objects)
        written = kept[piece.first + piece.image]
        crowd = crowds(piece.objects)
        losses.add(int((crowd & written).sum()), "crowd region is", "crowd regions are", "left out: YOLO has none")
        losses.add(
            int(((rank < 0) & ~crowd & written).sum()), "object has", "objects have", "the id of no class: left out"
        )
        unsized = ~sized[piece.image] & written & ~crowd & (rank >= 0)
        losses.add(
            int(unsized.sum()),
            "object lies",
            "objects lie",
            "in an image of unknown size, of which no fraction is known: left out",
        )
        rows = kept_rows(written, ~crowd, rank >= 0, sized[piece.image])
        image = piece.image[rows]
        widths, heights = (column(piece.images, name)[image] for name in ("width", "height"))
        of, texts = lines(piece.objects.take(rows), rank[rows], widths, heights, rendering, losses)
        for row, content in enumerate(by_image(image[of], texts, len(piece.images)), piece.first):
            if content is not None:
                yield f"labels/{stem(keys[row].removeprefix('images/'))}.txt", [content]
    splits = rows_of_splits(read, losses, "YOLO")
    listed = {split: [keys[row] for row in rows if row in keys] for split, rows in splits.items()}
    named = {split: f"{split}.txt" for split, split_keys in listed.items() if split_keys}
    for split in ("train", "val"):
        if split not in named:
            losses.say(f"No image is of {split}, and Ultralytics takes no data.yaml without {split}.")
    for split, file in named.items():
        yield file, ["".join(f"./{key}\n" for key in listed[split]).encode()]
    yield "data.yaml", [_description(classes, named, number, losses)]


def _keypoints(classes: list[Class], read: Annotations) -> int:
    """How many keypoints an object has: as the classes name them, else as most objects have."""
    for entry in classes:
        if entry.keypoints:
            return len(entry.keypoints)
    counts: Whole = np.array([len(values) // 3 for values in read.objects["keypoints"].to_pylist() if values], np.int64)
    return int(np.bincount(counts).argmax()) if len(counts) else 1


def _description(classes: list[Class], named: Mapping[str, str], keypoints: int, losses: Losses) -> bytes:
    """``data.yaml``. It states no path, so that the file's own folder counts, wherever the dataset lies."""
    value: dict[str, Any] = {**named, "names": {index: entry.name for index, entry in enumerate(classes)}}
    if keypoints:
        value["kpt_shape"] = [keypoints, 3]
        pairs = {frozenset(frozenset(pair) for pair in entry.flip_pairs or ()) for entry in classes}
        if len(pairs) == 1:
            value["flip_idx"] = _mirror(classes[0], keypoints)
        else:
            losses.add(
                len(classes),
                "class has",
                "classes have",
                "pairs of keypoints that differ, and YOLO has one list for all: left out",
            )
        value["kpt_names"] = {
            index: list(entry.keypoints)
            for index, entry in enumerate(classes)
            if entry.keypoints and len(entry.keypoints) == keypoints
        }
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=2**20).encode()


def _mirror(entry: Class, keypoints: int) -> list[int]:
    """The counterpart of each keypoint in a mirror."""
    indices = list(range(keypoints))
    for first, second in entry.flip_pairs or ():
        if 0 <= first < keypoints and 0 <= second < keypoints:
            indices[first], indices[second] = second, first
    return indices
