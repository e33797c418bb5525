import copy
import random
from typing import Any

from dice_samples import annotation, dataset, document, documents, image
from hypothesis import given
from hypothesis import strategies as st

from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.difference import difference


def base() -> dict[str, Any]:
    return document(
        [image(f"{number}.png", number) for number in range(6)],
        classes=[
            {"id": index, "name": name} for index, name in enumerate(["defect", "car", "bus", "van", "cat", "dog"])
        ],
    )


def changes(value: dict[str, Any]) -> list[str]:
    return difference(dataset(base()), dataset(value))


def test_the_same_dataset_has_no_difference() -> None:
    assert changes(base()) == []


def test_images_that_come_and_go_are_counted_and_named() -> None:
    value = base()
    value["images"] = value["images"][1:] + [image(f"new {number}.png", 10 + number) for number in range(5)]
    assert changes(value) == [
        "5 images added (new 0.png, new 1.png, new 2.png and 2 more)",
        "1 image removed (0.png)",
    ]


def test_changed_images_are_told_by_what_changed() -> None:
    value = base()
    value["images"][0]["annotations"].append(annotation(9, bbox=[1, 2, 3, 4]))
    value["images"][1]["annotations"] = []
    value["images"][2]["split"] = "val"
    value["images"][3]["width"] = 901
    assert changes(value) == [
        "2 images with changed annotations (0.png, 1.png)",
        "1 image with changed split (2.png)",
        "1 image with changed width or height (3.png)",
    ]


def test_classes_are_told() -> None:
    value = base()
    value["classes"][4]["name"] = "lion"
    value["classes"][5] = {"id": 9, "name": "owl"}
    assert changes(value) == [
        '1 class added (9 "owl")',
        '1 class removed (5 "dog")',
        'class 4 renamed from "cat" to "lion"',
    ]


def test_keypoints_are_told_where_they_count() -> None:
    value = base()
    value["classes"][3]["keypoints"] = ["bumper"]
    assert changes(value) == []
    old = base() | {"task_type": "pose"}
    assert difference(dataset(old), dataset(value | {"task_type": "pose"})) == [
        'class 3 "van" with changed keypoints or flip pairs'
    ]


def test_other_class_ids_in_the_same_order_are_no_difference() -> None:
    value = base()
    for entry in (*value["classes"], *(label for item in value["images"] for label in item["annotations"])):
        name = "id" if "name" in entry else "class_id"
        entry[name] = 10 * entry[name]
    old, new = dataset(base()).sorted(), dataset(value).sorted()
    assert annotations_hash(old) == annotations_hash(new)
    assert difference(old, new) == []


def test_many_renamings_are_shortened() -> None:
    value = base()
    for entry in value["classes"]:
        entry["name"] += "s"
    assert len(changes(value)) == 4
    assert changes(value)[-1] == "3 more classes renamed"


@given(documents(), documents(), st.booleans(), st.randoms(use_true_random=False))
def test_a_difference_is_told_exactly_when_the_content_differs(
    first: dict[str, Any], other: dict[str, Any], same: bool, order: random.Random
) -> None:
    if same:
        other = copy.deepcopy(first)
        order.shuffle(other["images"])
    old, new = dataset(first).sorted(), dataset(other).sorted()
    assert (difference(old, new) == []) is (annotations_hash(old) == annotations_hash(new))
