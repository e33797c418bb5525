"""DICE documents for the tests, laid out as the labelling tool exports them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import strategies as st

from visionloop.data.annotations.images import Image, images
from visionloop.data.annotations.labels import yolo_labels
from visionloop.data.annotations.tables import Annotations
from visionloop.data.dice.tasks import annotation_file
from visionloop.data.formats.dice.reader import read_file

FILE = "annotations_detection.json"


def annotation(index: int = 0, class_id: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "id": 1685 + index,
        "image_id": 1,
        "class_id": class_id,
        "class_name": "defect" if class_id == 0 else f"class {class_id}",
        "bbox": [351.29, 286.94, 430.0, 512.22],
        "bbox_format": "xywh",
        "area": 220255.55,
        "iscrowd": 0,
        "attributes": {},
    } | fields


def image(name: str = "bottle/broken_large/000.png", identity: int = 1, **fields: Any) -> dict[str, Any]:
    labels = [annotation(image_id=identity)]
    return {
        "id": identity,
        "file_name": name,
        "width": 900,
        "height": 900,
        "depth": 3,
        "split": "train",
        "annotations": labels,
        "metadata": {
            "labeled_by": "labeller@example.com",
            "labeled_at": "2025-11-20T05:57:38.582405+09:00",
            "reviewed_by": "reviewer@example.com",
            "reviewed_at": "2025-11-20T06:02:40.419467+09:00",
            "source": "platform_labeler_v1.0",
        },
    } | fields


def document(images: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "format_version": "1.0",
        "dataset_id": "8f97389d-aa20-4de3-9872-d3cf8909a53c",
        "dataset_name": "det-mvtec-ad",
        "task_type": "object_detection",
        "created_at": "2025-11-18T22:04:10.784593+09:00",
        "last_modified_at": "2025-11-20T07:53:59.911606+09:00",
        "version": 1,
        "classes": [{"id": 0, "name": "defect", "color": "#d96826", "supercategory": "object"}],
        "images": [image()] if images is None else images,
    } | fields


def encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def dataset(value: dict[str, Any], task: str | None = None) -> Annotations:
    return read_file(encoded(value), FILE if task is None else annotation_file(task), task)


# Numbers that a labelling tool writes, and the borders of what JSON holds.
numbers = st.one_of(
    st.integers(-2000, 2000),
    st.floats(-2000, 2000).map(lambda value: round(value, 2)),
    st.floats(allow_nan=False, allow_infinity=False),
)
attributes = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | numbers.map(float) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=2,
)
polygons = st.lists(st.lists(numbers, min_size=6, max_size=8), min_size=1, max_size=2)
masks = st.fixed_dictionaries(
    {"size": st.just([900, 900]), "counts": st.text(max_size=5) | st.lists(st.integers(0, 900), max_size=3)}
)
objects = st.fixed_dictionaries(
    {"class_id": st.integers(0, 2)},
    optional={
        "id": st.integers(0, 9999),
        "bbox": st.lists(numbers, min_size=4, max_size=4),
        "area": numbers,
        "iscrowd": st.sampled_from([0, 1]),
        "attributes": attributes,
        "segmentation": polygons | masks,
        "keypoints": st.lists(numbers, max_size=6),
    },
)
file_names = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=6).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)


@st.composite
def documents(draw: st.DrawFn, largest: int = 4) -> dict[str, Any]:
    """A valid document with one to ``largest`` images and three classes."""
    names = draw(st.lists(file_names, min_size=1, max_size=largest, unique=True))
    images = [
        {
            "id": index,
            "file_name": name,
            "width": draw(st.integers(1, 5000)),
            "height": draw(st.integers(1, 5000)),
            "split": draw(st.sampled_from(["train", "val", "test", None])),
            "annotations": draw(st.lists(objects, max_size=3)),
        }
        for index, name in enumerate(names)
    ]
    classes = [{"id": index, "name": f"class {index}"} for index in range(3)]
    return document(images, classes=classes)


def pictures(read: Annotations) -> list[Image]:
    """The images of a dataset with their objects."""
    return list(images(read))


def labels_of(read: Annotations) -> list[str]:
    """The YOLO label file of each image."""
    return list(yolo_labels(read, np.arange(len(read.images))))


def label(read: Annotations) -> str:
    """The YOLO label file of the first image."""
    return labels_of(read)[0]
