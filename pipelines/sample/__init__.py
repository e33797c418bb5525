"""The sample dataset of the demo: scenes of real handwritten digits, written as DICE 1.0.

Format (docs/dice.md): annotations nested in their image, `split` in each image, statistics,
and people and dates in `metadata`. Nothing in it comes from a clock, so writing it again gives equal bytes.
"""

from __future__ import annotations

import colorsys
import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visionloop.pipelines.sample.scenes import CLASS_NAMES, SCENE_SIDE, compose

NAME = "sample-digits"

#: The last key that ``write`` writes: if it exists, the dataset is complete.
LAST_KEY = "metadata.json"
ANNOTATIONS_KEY = "annotations_detection.json"

_CREATED = "2025-11-18T22:04:10.784593+09:00"
_LABELED = "2025-11-20T05:57:38.582405+09:00"
_REVIEWED = "2025-11-20T06:02:40.419467+09:00"
_MODIFIED = "2025-11-20T07:53:59.911606+09:00"
_PERSON = "labeler@example.com"


@dataclass(frozen=True)
class Sample:
    """What was written: numbers of images and boxes, and bytes in total."""

    images: int
    boxes: int
    size: int


def write(
    put: Callable[[str, bytes], object], train: int = 400, val: int = 80, test: int = 80, seed: int = 0
) -> Sample:
    """Writes the dataset object by object, images first and ``LAST_KEY`` last.

    Args:
        put: Takes a key below the dataset's prefix, and the object's bytes.
        train: Number of training images; a higher one leaves the first images the same. So do ``val`` and ``test``.
        val: Number of validation images.
        test: Number of test images.
        seed: Another seed gives other scenes and another dataset id.

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
            scene = compose(split, number, seed)
            image_id = len(images) + 1
            file_name = f"{split}/{number + 1:06d}.png"
            store(f"images/{file_name}", scene.png())
            annotations = []
            for box in scene.boxes:
                annotation_id += 1
                annotations.append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "class_id": box.class_index,
                        "class_name": CLASS_NAMES[box.class_index],
                        "bbox": [float(side) for side in (box.left, box.top, box.width, box.height)],
                        "bbox_format": "xywh",
                        "area": float(box.width * box.height),
                        "iscrowd": 0,
                        "attributes": {},
                    }
                )
            images.append(
                {
                    "id": image_id,
                    "file_name": file_name,
                    "width": SCENE_SIDE,
                    "height": SCENE_SIDE,
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
    dataset_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"visionloop:{NAME}:{seed}"))
    store(ANNOTATIONS_KEY, _encode(_detection_file(dataset_id, images)))
    store(LAST_KEY, _encode(_metadata_file(dataset_id, images)))
    return Sample(len(images), annotation_id, size)


def _detection_file(dataset_id: str, images: list[dict[str, Any]]) -> dict[str, Any]:
    names = Counter(annotation["class_name"] for image in images for annotation in image["annotations"])
    total = sum(names.values())
    return {
        "format_version": "1.0",
        "dataset_id": dataset_id,
        "dataset_name": NAME,
        "task_type": "object_detection",
        "created_at": _CREATED,
        "last_modified_at": _MODIFIED,
        "version": 1,
        "classes": [
            {"id": index, "name": name, "color": _color(index), "supercategory": "digit"}
            for index, name in enumerate(CLASS_NAMES)
        ],
        "images": images,
        "statistics": {
            "total_images": len(images),
            "total_annotations": total,
            "avg_annotations_per_image": round(total / len(images), 2) if images else 0.0,
            "class_distribution": {name: names[name] for name in CLASS_NAMES if names[name]},
            "split_distribution": dict(Counter(image["split"] for image in images)),
        },
    }


def _metadata_file(dataset_id: str, images: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format_version": "1.0",
        "dataset_id": dataset_id,
        "dataset_name": NAME,
        "description": "Scenes composed from the handwritten digits of scikit-learn (UCI Optical Recognition of "
        "Handwritten Digits); the source digits of train, val and test are disjoint.",
        "task_types": ["detection"],
        "total_images": len(images),
        "created_at": _CREATED,
    }


def _color(index: int) -> str:
    """Hues evenly apart."""
    channels = colorsys.hsv_to_rgb(index / len(CLASS_NAMES), 0.82, 0.85)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
