"""The dataset hash: its form spelled out, and what it does and does not depend on."""

from __future__ import annotations

import copy
import hashlib
import random
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from dice_samples import FILE, annotation, document, documents, encoded, image
from hypothesis import given
from hypothesis import strategies as st

from visionloop.data.annotations import content, parquet
from visionloop.data.annotations.content import annotations_hash, dataset_hash, digests
from visionloop.data.annotations.tables import Annotations, offsets
from visionloop.data.dice.tasks import TASKS
from visionloop.data.formats.dice.reader import read_file


def read(value: dict[str, Any]) -> Annotations:
    return read_file(encoded(value), FILE, None).sorted()


def declared(annotations: Annotations) -> pa.Table:
    """What a store might declare of each image; the first one is missing."""
    names = annotations.images["file_name"].to_pylist()
    sizes = [None, *range(1, len(names))]
    etags = [None if size is None else f"e{size}" for size in sizes]
    return pa.table({"size": pa.array(sizes, pa.int64()), "etag": pa.array(etags, pa.string())})


def text(value: str | None) -> bytes:
    data = (value or "").encode()
    return struct.pack(">I", len(data)) + data


def numbers(values: list[int] | None) -> bytes:
    return struct.pack(f">I{len(values or ())}i", len(values or ()), *(values or ()))


def reference(annotations: Annotations, task: str, objects: pa.Table | None) -> list[bytes]:
    """The digests, spelled out object by object."""
    ranks = {entry: rank for rank, entry in enumerate(sorted(item.id for item in annotations.classes))}
    bounds, labels = offsets(annotations), annotations.objects.to_pylist()
    result = []
    for row, item in enumerate(annotations.images.to_pylist()):
        records = []
        for label in labels[bounds[row] : bounds[row + 1]]:
            rank = ranks.get(label["class_id"], 2**31 | (label["class_id"] & (2**31 - 1)))
            box = struct.pack(
                ">4i", *(-(2**31) if label[n] is None else label[n] for n in ("x", "y", "width", "height"))
            )
            outlines = label["polygons"] or []
            geometry = {
                "detection": box,
                "segmentation": struct.pack(">I", len(outlines))
                + b"".join(map(numbers, outlines))
                + text(label["mask"]),
                "pose": box + numbers(label["keypoints"]),
                "classification": b"",
            }[task]
            records.append(struct.pack(">I", rank) + geometry + bytes([label["iscrowd"]]) + text(label["attributes"]))
        form = text(item["file_name"])
        if objects is not None:
            size = objects["size"][row].as_py()
            form += struct.pack(">Q", 2**64 - 1 if size is None else size) + text(objects["etag"][row].as_py())
        form += (
            struct.pack(">2I", item["width"], item["height"]) + text(item["split"]) + struct.pack(">I", len(records))
        )
        result.append(hashlib.sha256(form + b"".join(sorted(records))).digest())
    return result


@given(documents(), st.sampled_from(TASKS))
def test_the_form_is_the_stated_one(value: dict[str, Any], task: str) -> None:
    result = read(value | {"task_type": task})
    assert digests(result).to_pylist() == reference(result, task, None)
    assert digests(result, declared(result)).to_pylist() == reference(result, task, declared(result))


def test_objects_that_begin_alike_are_sorted_whole() -> None:
    labels = [annotation(number, attributes={"n": "x" * 30 + str(9 - number % 3)}) for number in range(7)]
    result = read(document([image("a.png", annotations=labels), image("b.png", 2, annotations=labels[::-1])]))
    assert digests(result).to_pylist() == reference(result, "detection", None)


@pytest.mark.parametrize("task", TASKS)
def test_boxes_that_begin_alike_are_sorted_whole(task: str) -> None:
    boxes = [[1, 2, 3, 4], [1, 2, 3, 3], [-1, 2, 3, 3], [1, -2, 3, 3], [1, 2, 3, 4], [1.01, 0, 0, 0]]
    labels = [annotation(number, bbox=box) for number, box in enumerate([*boxes, None, *boxes[::-1], None])]
    foreign = [{"class_id": number, "bbox": box} for number in (-5, 2**31 - 1, 0, 1) for box in boxes]
    for some in (labels, foreign):
        images = [
            image("a.png", annotations=some),
            image("b.png", 2, annotations=some[::-1]),
            image("c.png", 3, annotations=[]),
        ]
        result = read(document(images) | {"task_type": task})
        assert digests(result).to_pylist() == reference(result, task, None)


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    result = read(document([image(f"{number}.png", number) for number in range(7)]))
    expected = digests(result).to_pylist()
    monkeypatch.setattr(content, "_IMAGES_AT_ONCE", 2)
    assert digests(result).to_pylist() == expected


@given(documents(), st.randoms(use_true_random=False))
def test_order_never_changes_it(value: dict[str, Any], order: random.Random) -> None:
    shuffled = copy.deepcopy(value)
    order.shuffle(shuffled["images"])
    order.shuffle(shuffled["classes"])
    for entry in shuffled["images"]:
        order.shuffle(entry["annotations"])
    assert annotations_hash(read(shuffled)) == annotations_hash(read(value))


def label(value: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = value["images"][0]["annotations"][0]
    return result


UNCOVERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dates": lambda value: value.update(created_at="2026-01-01T00:00:00Z", last_modified_at=None),
    "version": lambda value: value.update(version=2, format_version="1.1"),
    "identity": lambda value: value.update(dataset_id="other", dataset_name="other"),
    "colour": lambda value: value["classes"][0].update(color="#000000", supercategory=None),
    "class ids": lambda value: (value["classes"][0].update(id=7), label(value).update(class_id=7)),
    "people": lambda value: value["images"][0]["metadata"].update(labeled_by="another@example.com"),
    "statistics": lambda value: value.update(statistics={"total_images": 1}),
    "ids": lambda value: (value["images"][0].update(id=5), label(value).update(id=9, image_id=5)),
    "class_name": lambda value: label(value).update(class_name=None),
    "area": lambda value: label(value).update(area=1),
    "another task's geometry": lambda value: label(value).update(keypoints=[1, 2, 2]),
    "a thousandth of a pixel": lambda value: label(value).update(bbox=[351.291, 286.939, 430, 512.22]),
    "valid is val": lambda value: None,
}

COVERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "file_name": lambda value: value["images"][0].update(file_name="other.png"),
    "width": lambda value: value["images"][0].update(width=901),
    "height": lambda value: value["images"][0].update(height=901),
    "split": lambda value: value["images"][0].update(split="val"),
    "no split": lambda value: value["images"][0].update(split=None),
    "class name": lambda value: value["classes"][0].update(name="dent"),
    "bbox": lambda value: label(value).update(bbox=[351.3, 286.94, 430, 512.22]),
    "no bbox": lambda value: label(value).update(bbox=None),
    "iscrowd": lambda value: label(value).update(iscrowd=1),
    "attributes": lambda value: label(value).update(attributes={"occluded": True}),
    "object": lambda value: value["images"][0]["annotations"].append(annotation(1)),
    "image": lambda value: value["images"].append(image("b.png", 2)),
}


@pytest.mark.parametrize("field", UNCOVERED)
def test_what_is_not_content_does_not_change_it(field: str) -> None:
    value = document()
    UNCOVERED[field](value)
    assert annotations_hash(read(value)) == annotations_hash(read(document()))


@pytest.mark.parametrize("field", COVERED)
def test_what_is_content_changes_it(field: str) -> None:
    value = document()
    COVERED[field](value)
    assert annotations_hash(read(value)) != annotations_hash(read(document()))


def test_another_word_for_a_split_is_the_same_split() -> None:
    first, other = (read(document([image(split=word)])) for word in ("valid", "val"))
    assert annotations_hash(first) == annotations_hash(other)


@pytest.mark.parametrize("column", ["size", "etag"])
def test_the_store_s_word_changes_it(column: str) -> None:
    result = read(document([image("a.png"), image("b.png", 2)]))
    objects = declared(result)
    changed = objects.set_column(
        objects.schema.names.index(column),
        column,
        pa.array([None, 7 if column == "size" else "x"]).cast(objects[column].type),
    )
    first, other = (dataset_hash(result, digests(result, entry)) for entry in (objects, changed))
    assert first != other != annotations_hash(result)


def test_names_of_keypoints_count_for_pose_alone() -> None:
    def hash_of(task: str, **fields: Any) -> str:
        value = document(
            classes=[{"id": 0, "name": "defect", "keypoints": ["a", "b"], "flip_pairs": [[0, 1]]} | fields]
        )
        return annotations_hash(read(value | {"task_type": task}))

    assert hash_of("pose", keypoints=["a", "c"]) != hash_of("pose") != hash_of("pose", flip_pairs=[])
    assert hash_of("pose", flip_pairs=[[1, 0]]) == hash_of("pose")
    assert hash_of("detection", keypoints=["a", "c"]) == hash_of("detection")


@given(documents())
def test_parquet_gives_back_what_it_was_given_and_the_same_bytes(value: dict[str, Any]) -> None:
    result = read(value)
    data = parquet.encode(result)
    back = parquet.decode(data, result.images)
    assert back.objects.equals(result.objects)
    assert (back.classes, back.task, back.file, back.findings) == (
        result.classes,
        result.task,
        result.file,
        result.findings,
    )
    assert parquet.encode(back) == data == parquet.encode(read(value))
