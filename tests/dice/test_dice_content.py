import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from dice_samples import annotation, dataset, document, documents, image, numbers
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidDataset
from visionloop.data.dice import annotations_hash, content, content_hash


def declared(value: dict[str, Any]) -> dict[str, tuple[int | None, str | None]]:
    """What a store might declare of each image."""
    return {
        one["file_name"]: (100 + index, f"etag {index}")
        for index, one in enumerate(sorted(value["images"], key=lambda one: one["file_name"]))
    }


def reference(value: dict[str, Any]) -> bytes:
    """The canonical form, spelled out with the library alone."""
    objects = declared(value)
    lines = [rfc8785.dumps([{"id": one["id"], "name": one["name"]} for one in value["classes"]])]
    for one in sorted(value["images"], key=lambda one: one["file_name"]):
        labels = []
        for label in one["annotations"]:
            kept = {"class_id": label["class_id"], "iscrowd": label.get("iscrowd", 0)}
            kept |= {
                field: label[field]
                for field in ("attributes", "bbox", "keypoints", "segmentation")
                if label.get(field) not in (None, [], {})
            }
            for field in ("bbox", "keypoints"):
                if field in kept:
                    kept[field] = [float(number) for number in kept[field]]
            if isinstance(kept.get("segmentation"), list):
                kept["segmentation"] = [[float(number) for number in polygon] for polygon in kept["segmentation"]]
            labels.append(kept)
        labels.sort(key=lambda kept: rfc8785.dumps(kept).decode())
        size, etag = objects[one["file_name"]]
        line = {key: one.get(key) for key in ("file_name", "width", "height", "split")}
        lines.append(rfc8785.dumps(line | {"annotations": labels, "size": size, "etag": etag}))
    return b"".join(line + b"\n" for line in lines)


@given(documents())
def test_the_form_is_rfc_8785_line_by_line(value: dict[str, Any]) -> None:
    assert content(dataset(value), declared(value)) == reference(value)


@given(st.lists(numbers, min_size=4, max_size=4))
def test_numbers_are_written_as_rfc_8785_does(bbox: list[float]) -> None:
    value = document([image(annotations=[annotation(bbox=bbox)])])
    expected = b'"bbox":' + rfc8785.dumps([float(number) for number in bbox])
    assert expected in content(dataset(value), {})


@given(documents(), st.randoms(use_true_random=False))
def test_order_never_changes_it(value: dict[str, Any], order: random.Random) -> None:
    shuffled = copy.deepcopy(value)
    order.shuffle(shuffled["images"])
    order.shuffle(shuffled["classes"])
    for one in shuffled["images"]:
        order.shuffle(one["annotations"])
    assert content_hash(dataset(shuffled), declared(value)) == content_hash(dataset(value), declared(value))
    assert annotations_hash(dataset(shuffled)) == annotations_hash(dataset(value))


def label(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["images"][0]["annotations"][0]
    return found


UNCOVERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dates": lambda value: value.update(created_at="2026-01-01T00:00:00Z", last_modified_at=None),
    "version": lambda value: value.update(version=2, format_version="1.1"),
    "dataset": lambda value: value.update(dataset_id="x", dataset_name="renamed"),
    "statistics": lambda value: value.update(statistics={"total_images": 7}),
    "colour": lambda value: value["classes"][0].update(color="#000000", supercategory="none"),
    "people": lambda value: value["images"][0].update(metadata={"labeled_by": "another@example.com"}),
    "image id and depth": lambda value: value["images"][0].update(id=77, depth=1),
    "annotation id": lambda value: label(value).update(id=77, image_id=77),
    "class name of an annotation": lambda value: label(value).update(class_name=None),
    "area": lambda value: label(value).update(area=1),
    "bbox_format": lambda value: label(value).pop("bbox_format"),
    "iscrowd 0": lambda value: label(value).pop("iscrowd"),
    "no attributes": lambda value: label(value).pop("attributes"),
    "unknown field": lambda value: value.update(unknown=1),
    "whole numbers": lambda value: label(value).update(bbox=[0, 10, 20.0, 30]),
    "minus zero": lambda value: label(value).update(bbox=[-0.0, 10.0, 20, 30.0]),
}

COVERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "file name": lambda value: value["images"][0].update(file_name="other.png"),
    "width": lambda value: value["images"][0].update(width=901),
    "height": lambda value: value["images"][0].update(height=901),
    "split": lambda value: value["images"][0].update(split="val"),
    "no split": lambda value: value["images"][0].pop("split"),
    "image added": lambda value: value["images"].append(image("added.png")),
    "class of an annotation": lambda value: label(value).update(class_id=1, class_name="other"),
    "bbox": lambda value: label(value).update(bbox=[0, 10, 20, 30.01]),
    "no bbox": lambda value: label(value).pop("bbox"),
    "iscrowd": lambda value: label(value).update(iscrowd=1),
    "attributes": lambda value: label(value).update(attributes={"occluded": True}),
    "segmentation": lambda value: label(value).update(segmentation=[[1, 2, 3, 4, 5, 6]]),
    "mask": lambda value: label(value).update(segmentation={"size": [9, 9], "counts": [1]}),
    "keypoints": lambda value: label(value).update(keypoints=[1, 2, 2]),
    "annotation repeated": lambda value: value["images"][0]["annotations"].append(label(value)),
    "annotation removed": lambda value: value["images"][0].update(annotations=[]),
    "class name": lambda value: value["classes"][0].update(name="renamed"),
    "class id": lambda value: value["classes"][1].update(id=5),
    "class added": lambda value: value["classes"].append({"id": 2, "name": "third"}),
    "keypoint names": lambda value: value["classes"][0].update(keypoints=["nose"]),
    "flip pairs": lambda value: value["classes"][0].update(flip_pairs=[[0, 1]]),
}


def base() -> dict[str, Any]:
    classes = [{"id": 0, "name": "defect", "color": "#d96826"}, {"id": 1, "name": "other"}]
    return document([image(annotations=[annotation(bbox=[0, 10, 20, 30])])], classes=classes)


@pytest.mark.parametrize("name", UNCOVERED)
def test_what_is_no_content_never_changes_it(name: str) -> None:
    value = base()
    objects = declared(value)
    UNCOVERED[name](value)
    assert content_hash(dataset(value), objects) == content_hash(dataset(base()), objects)
    assert annotations_hash(dataset(value)) == annotations_hash(dataset(base()))


@pytest.mark.parametrize("name", COVERED)
def test_any_content_changes_it(name: str) -> None:
    value = base()
    COVERED[name](value)
    assert content_hash(dataset(value), {}) != content_hash(dataset(base()), {})
    assert annotations_hash(dataset(value)) != annotations_hash(dataset(base()))


@pytest.mark.parametrize("changed", [(101, "etag 0"), (100, "etag 1"), (None, "etag 0"), (100, None)])
def test_size_and_etag_change_the_content_alone(changed: tuple[int | None, str | None]) -> None:
    read = dataset(base())
    name = read.images[0].file_name
    assert content_hash(read, {name: changed}) != content_hash(read, {name: (100, "etag 0")})


def test_the_order_of_flip_pairs_is_no_content() -> None:
    one, other = base(), base()
    one["classes"][0]["flip_pairs"] = [[1, 2], [3, 4]]
    other["classes"][0]["flip_pairs"] = [[4, 3], [1, 2]]
    assert annotations_hash(dataset(one)) == annotations_hash(dataset(other))


def test_the_hash_is_that_of_the_bytes_and_stays_what_it_was() -> None:
    read = dataset(base())
    objects = {read.images[0].file_name: (12, "abc")}
    assert content(read, objects) == (
        b'[{"id":0,"name":"defect"},{"id":1,"name":"other"}]\n'
        b'{"annotations":[{"bbox":[0,10,20,30],"class_id":0,"iscrowd":0}],"etag":"abc",'
        b'"file_name":"bottle/broken_large/000.png","height":900,"size":12,"split":"train","width":900}\n'
    )
    # Written down, so that a change of the form, which makes every dataset new, is noticed.
    assert content_hash(read, objects) == "52cfac4928fc50a6b77a6da3f1c3d4430e555fc551772b63563406b3cbdd32e1"
    assert annotations_hash(read) == "c6cf7435dca84defee62e7bf0f72366e10bedf034c24095c0c4468437d9aa043"


def test_a_number_that_json_cannot_hold_is_refused_with_its_place() -> None:
    value = document([image(annotations=[annotation(), annotation(attributes={"serial": 2**60})])])
    with pytest.raises(InvalidDataset, match=r"annotations_detection.json: images\[0\].annotations\[1\].attributes: "):
        annotations_hash(dataset(value))
