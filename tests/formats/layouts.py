"""Small datasets in several formats for the tests: one content, laid out as each format's tools write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.hints import with_hint

#: Width and height of each image.
SIZES = {"a.png": (40, 30), "sub/b.png": (20, 20), "c.png": (64, 48)}

#: The splits of the images.
SPLITS = {"a.png": "train", "sub/b.png": "train", "c.png": "val"}

CLASSES = [{"id": 0, "name": "cat", "supercategory": "animal"}, {"id": 1, "name": "dog"}]

#: Class id and box of each image's objects, in pixels with two decimals.
BOXES: dict[str, list[tuple[int, list[float]]]] = {
    "a.png": [(0, [1.25, 2.5, 10.0, 20.75]), (1, [0.0, 0.0, 40.0, 30.0])],
    "sub/b.png": [],
    "c.png": [(1, [10.01, 3.33, 20.07, 7.49])],
}


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Writes files below a folder: bytes and texts as they are, other values as JSON."""
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def pictures(folder: Path, names: Mapping[str, str] | None = None) -> None:
    """Writes the pictures; ``names`` gives the key of each, else they lie below ``images/``."""
    for name, size in SIZES.items():
        path = folder / (names[name] if names else f"images/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)


def dice(folder: Path, **of_label: Any) -> Path:
    """The dataset as DICE; ``of_label`` are further fields of every label."""
    images = [
        {
            "file_name": name,
            "width": size[0],
            "height": size[1],
            "split": SPLITS[name],
            "annotations": [{"class_id": number, "bbox": box, **of_label} for number, box in BOXES[name]],
        }
        for name, size in SIZES.items()
    ]
    document = {"format_version": "1.0", "task_type": "detection", "classes": CLASSES, "images": images}
    pictures(folder)
    return write(folder, {"annotations_detection.json": document})


def coco_document(names: Mapping[str, str], **of_label: Any) -> dict[str, Any]:
    """A COCO file of some images; ``names`` gives each one's ``file_name``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, written) in enumerate(names.items(), 7):
        images.append({"id": number, "file_name": written, "width": SIZES[name][0], "height": SIZES[name][1]})
        for class_id, box in BOXES[name]:
            label = {"id": len(annotations) + 1, "image_id": number, "category_id": class_id, "bbox": box, "iscrowd": 0}
            annotations.append(label | {"area": box[2] * box[3], "segmentation": []} | of_label)
    annotations.reverse()  # the list of a file has no order
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": CLASSES}


def coco(folder: Path, **of_label: Any) -> Path:
    """The dataset as COCO: a file for each split, the images below ``images/``."""
    pictures(folder)
    for split in ("train", "val"):
        names = {name: name for name in SIZES if SPLITS[name] == split}
        write(folder, {f"annotations/instances_{split}2017.json": coco_document(names, **of_label)})
    return folder


def read(folder: Path, name: str, task: str | None = None, group: str | None = None) -> Annotations:
    """A dataset in a folder, as snapshot reads it."""
    work = folder.parent / f"{folder.name}-work"
    work.mkdir(exist_ok=True)
    source = formats.Source(open_prefix(str(folder), "dataset"), work, task=task, group=group)
    return with_hint(formats.reader(name)(source).sorted(), source)


def rows(annotations: Annotations) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and objects by what every format says of them: without where they stand, and the objects of an image sorted."""
    images = annotations.images.drop_columns(["position", "file"]).to_pylist()
    objects = annotations.objects.drop_columns(["position"]).to_pylist()
    return images, sorted(objects, key=lambda row: (row["image"], json.dumps(row, sort_keys=True)))
