"""The sample datasets of the demo, one a task: scenes or pictures of real handwritten digits, written as DICE 1.0.

Format (docs/dice.md): annotations nested in their image, `split` in each image, statistics,
and people and dates in `metadata`. Nothing in it comes from a clock, so writing it again gives equal bytes.
"""

from __future__ import annotations

import colorsys
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionloop.data.annotations.masks import compressed, outlines
from visionloop.pipelines.sample.scenes import CLASS_NAMES, EXTREMES, Digit, compose, picture

NAME = "sample-digits"

#: The file's own word for each task.
TASKS = {
    "detection": "object_detection",
    "segmentation": "segmentation",
    "pose": "pose",
    "classification": "classification",
}

#: The last key that ``write`` writes: if it exists, the dataset is complete.
LAST_KEY = "metadata.json"

_CREATED = "2025-11-18T22:04:10.784593+09:00"
_LABELED = "2025-11-20T05:57:38.582405+09:00"
_REVIEWED = "2025-11-20T06:02:40.419467+09:00"
_MODIFIED = "2025-11-20T07:53:59.911606+09:00"
_PERSON = "labeler@example.com"


@dataclass(frozen=True)
class Labels:
    """How a dataset names its digits.

    Attributes:
        names: The class of each digit.
        mistaken: In train, the digits that are taken for others.
        outside: How many images of train have a box that lies outside the picture.
    """

    names: Sequence[str] = CLASS_NAMES
    mistaken: Mapping[int, int] = field(default_factory=dict)
    outside: int = 0


@dataclass(frozen=True)
class Sample:
    """What was written: numbers of images and digits, and bytes in total."""

    images: int
    digits: int
    size: int


def name_of(task: str) -> str:
    """The name of a task's sample dataset, and of the demo's model on it."""
    return NAME if task == "detection" else f"{NAME}-{task}"


def annotations_key(task: str) -> str:
    """The key of a task's annotations."""
    return f"annotations_{task}.json"


def write(
    put: Callable[[str, bytes], object],
    train: int = 400,
    val: int = 80,
    test: int = 80,
    seed: int = 0,
    task: str = "detection",
    name: str | None = None,
    labels: Labels = Labels(),
) -> Sample:
    """Writes a task's dataset object by object, images first and ``LAST_KEY`` last.

    Args:
        put: Takes a key below the dataset's prefix, and the object's bytes.
        train: Number of training images; a higher one leaves the first images the same. So do ``val`` and ``test``.
        val: Number of validation images.
        test: Number of test images.
        seed: Another seed gives other scenes and another dataset id.
        task: Classification has pictures of one digit each, the other tasks have the same scenes.
        name: The dataset's name; the sample's own unless given.
        labels: How its digits are named.

    Returns:
        What was written.
    """
    images: list[dict[str, Any]] = []
    annotation_id = 0
    size = 0

    def store(key: str, content: bytes) -> None:
        nonlocal size
        size += len(content)
        put(key, content)

    for split, count in (("train", train), ("val", val), ("test", test)):
        for number in range(count):
            scene = (picture if task == "classification" else compose)(split, number, seed)
            image_id = len(images) + 1
            file_name = f"{split}/{number + 1:06d}.png"
            store(f"images/{file_name}", scene.png())
            height, width = scene.pixels.shape[:2]
            annotations = []
            for index, digit in enumerate(scene.digits):
                annotation_id += 1
                named = labels.mistaken.get(digit.class_index, digit.class_index)
                class_index = named if split == "train" else digit.class_index
                geometry = _geometry(digit, task, width, height)
                if split == "train" and number < labels.outside and not index:
                    geometry["bbox"][0] += 2 * width
                annotations.append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "class_id": class_index,
                        "class_name": labels.names[class_index],
                        **geometry,
                        "attributes": {},
                    }
                )
            images.append(
                {
                    "id": image_id,
                    "file_name": file_name,
                    "width": width,
                    "height": height,
                    "depth": 3,
                    "split": split,
                    "annotations": annotations,
                    "metadata": {
                        "labeled_by": _PERSON,
                        "labeled_at": _LABELED,
                        "reviewed_by": _PERSON,
                        "reviewed_at": _REVIEWED,
                        "source": "visionloop_sample_v1.0",
                    },
                }
            )
    name = name or name_of(task)
    dataset_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"visionloop:{name}:{seed}"))
    store(annotations_key(task), _encode(_annotations_file(dataset_id, name, images, task, labels.names)))
    store(LAST_KEY, _encode(_metadata_file(dataset_id, name, images, task)))
    return Sample(len(images), annotation_id, size)


def _geometry(digit: Digit, task: str, width: int, height: int) -> dict[str, Any]:
    """What a task's file says of where a digit is."""
    if task == "classification":
        return {}
    box = {
        "bbox": [float(side) for side in (digit.left, digit.top, digit.width, digit.height)],
        "bbox_format": "xywh",
        "area": float(digit.width * digit.height),
        "iscrowd": 0,
    }
    if task == "segmentation":
        outline = outlines(compressed(digit.mask, digit.left, digit.top, height, width), height, width)
        return {**box, "area": float(digit.mask.sum()), "segmentation": [list(map(float, p)) for p in outline.polygons]}
    if task == "pose":
        return {**box, "keypoints": [value for x, y in digit.extremes() for value in (x, y, 2)]}
    return box


def _annotations_file(
    dataset_id: str, name: str, images: list[dict[str, Any]], task: str, classes: Sequence[str]
) -> dict[str, Any]:
    names = Counter(annotation["class_name"] for image in images for annotation in image["annotations"])
    total = sum(names.values())
    # A mirror swaps right and left.
    keypoints = {"keypoints": list(EXTREMES), "flip_pairs": [[1, 3]]} if task == "pose" else {}
    return {
        "format_version": "1.0",
        "dataset_id": dataset_id,
        "dataset_name": name,
        "task_type": TASKS[task],
        "created_at": _CREATED,
        "last_modified_at": _MODIFIED,
        "version": 1,
        "classes": [
            {"id": index, "name": name, "color": _color(index), "supercategory": "digit", **keypoints}
            for index, name in enumerate(classes)
        ],
        "images": images,
        "statistics": {
            "total_images": len(images),
            "total_annotations": total,
            "avg_annotations_per_image": round(total / len(images), 2) if images else 0.0,
            "class_distribution": {name: names[name] for name in classes if names[name]},
            "split_distribution": dict(Counter(image["split"] for image in images)),
        },
    }


def _metadata_file(dataset_id: str, name: str, images: list[dict[str, Any]], task: str) -> dict[str, Any]:
    return {
        "format_version": "1.0",
        "dataset_id": dataset_id,
        "dataset_name": name,
        "description": "Scenes composed from the handwritten digits of scikit-learn (UCI Optical Recognition of "
        "Handwritten Digits); the source digits of train, val and test are disjoint.",
        "task_types": [task],
        "total_images": len(images),
        "created_at": _CREATED,
    }


def _color(index: int) -> str:
    """Hues evenly apart."""
    channels = colorsys.hsv_to_rgb(index / len(CLASS_NAMES), 0.82, 0.85)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
