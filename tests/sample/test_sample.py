"""The sample dataset: DICE 1.0, tight boxes, disjoint sources, equal bytes each time."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visionloop.data.annotations.labels import flip_index, keypoint_names
from visionloop.data.formats.dice.reader import read_file
from visionloop.pipelines import sample
from visionloop.pipelines.sample import scenes


def written(train: int, val: int, test: int, seed: int = 0) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}

    def put(key: str, content: bytes) -> None:
        assert key not in objects
        objects[key] = content

    sample.write(put, train, val, test, seed)
    return objects


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    return written(train=30, val=6, test=5)


@pytest.fixture(scope="module")
def dice(objects: dict[str, bytes]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(objects["annotations_detection.json"])
    return content


def test_writing_again_gives_equal_bytes_in_the_same_order(objects: dict[str, bytes]) -> None:
    again = written(train=30, val=6, test=5)
    assert list(again.items()) == list(objects.items())
    assert list(objects)[-2:] == [sample.annotations_key("detection"), sample.LAST_KEY]


def test_a_larger_sample_begins_with_the_smaller_and_another_seed_is_another(objects: dict[str, bytes]) -> None:
    larger = written(train=31, val=6, test=5)
    images = {key for key in objects if key.startswith("images/")}
    assert {key for key in images if larger[key] == objects[key]} == images
    other = written(train=3, val=0, test=0, seed=1)
    assert all(other[key] != objects[key] for key in other)


def test_what_was_written_is_counted() -> None:
    objects: dict[str, bytes] = {}
    counts = sample.write(objects.__setitem__, train=4, val=0, test=2)
    assert counts.images == 6 == len(objects) - 2
    assert counts.size == sum(len(content) for content in objects.values())
    statistics = json.loads(objects[sample.annotations_key("detection")])["statistics"]
    assert counts.digits == statistics["total_annotations"]
    # Only splits that exist appear.
    assert statistics["split_distribution"] == {"train": 4, "test": 2}


def test_the_default_is_the_demos_dataset() -> None:
    keys: Counter[str] = Counter()
    counts = sample.write(lambda key, content: keys.update([key.rpartition("/")[0]]))
    assert keys == {"images/train": 400, "images/val": 80, "images/test": 80, "": 2}
    assert counts.digits > 1680


def test_the_file_is_laid_out_as_the_seeds_sample(dice: dict[str, Any]) -> None:
    assert list(dice) == [
        "format_version", "dataset_id", "dataset_name", "task_type", "created_at", "last_modified_at", "version",
        "classes", "images", "statistics",
    ]  # fmt: skip
    assert (dice["format_version"], dice["task_type"], dice["version"]) == ("1.0", "object_detection", 1)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", dice["dataset_id"])
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+09:00"
    assert re.fullmatch(stamp, dice["created_at"])
    assert re.fullmatch(stamp, dice["last_modified_at"])
    assert [entry["id"] for entry in dice["classes"]] == list(range(10))
    assert len({entry["color"] for entry in dice["classes"]}) == 10
    for entry in dice["classes"]:
        assert list(entry) == ["id", "name", "color", "supercategory"]
        assert re.fullmatch("#[0-9a-f]{6}", entry["color"])
    for image in dice["images"]:
        assert list(image) == ["id", "file_name", "width", "height", "depth", "split", "annotations", "metadata"]
        assert list(image["metadata"]) == ["labeled_by", "labeled_at", "reviewed_by", "reviewed_at", "source"]
        for annotation in image["annotations"]:
            assert list(annotation) == [
                "id", "image_id", "class_id", "class_name", "bbox", "bbox_format", "area", "iscrowd", "attributes",
            ]  # fmt: skip


def test_the_file_agrees_with_itself_and_with_the_pictures(dice: dict[str, Any], objects: dict[str, bytes]) -> None:
    names = {entry["id"]: entry["name"] for entry in dice["classes"]}
    images, annotations = dice["images"], [a for image in dice["images"] for a in image["annotations"]]
    assert len({image["id"] for image in images}) == len({image["file_name"] for image in images}) == len(images) == 41
    assert len({annotation["id"] for annotation in annotations}) == len(annotations)
    for image in images:
        picture = Image.open(io.BytesIO(objects["images/" + image["file_name"]]))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (image["width"], image["height"]))
        for annotation in image["annotations"]:
            left, top, width, height = annotation["bbox"]
            assert annotation["image_id"] == image["id"]
            assert annotation["class_name"] == names[annotation["class_id"]]
            assert annotation["area"] == width * height
            assert left >= 0 <= top
            assert left + width <= image["width"]
            assert top + height <= image["height"]
    statistics = dice["statistics"]
    assert statistics["total_images"] == len(images)
    assert statistics["total_annotations"] == len(annotations)
    assert statistics["avg_annotations_per_image"] == round(len(annotations) / len(images), 2)
    assert statistics["class_distribution"] == Counter(annotation["class_name"] for annotation in annotations)
    assert statistics["split_distribution"] == {"train": 30, "val": 6, "test": 5}


def test_the_metadata_file_names_the_same_dataset(dice: dict[str, Any], objects: dict[str, bytes]) -> None:
    metadata = json.loads(objects["metadata.json"])
    assert metadata["dataset_id"] == dice["dataset_id"]
    assert metadata["total_images"] == 41


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["train", "val", "test"]), st.integers(0, 5000), st.integers(0, 3))
def test_boxes_hold_all_that_is_drawn_tightly_and_apart(split: str, number: int, seed: int) -> None:
    scene = scenes.compose(split, number, seed)
    assert 2 <= len(scene.digits) <= 5
    covered = np.zeros(scene.pixels.shape[:2], dtype=bool)
    for box in scene.digits:
        assert not covered[box.top : box.top + box.height, box.left : box.left + box.width].any()
        covered[box.top : box.top + box.height, box.left : box.left + box.width] = True
    # One colour outside of all boxes: nothing is drawn there.
    (paper,) = np.unique(scene.pixels[~covered], axis=0)
    drawn = (scene.pixels != paper).any(axis=2)
    for box in scene.digits:
        inside = drawn[box.top : box.top + box.height, box.left : box.left + box.width]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        assert box.height <= 48


@pytest.mark.parametrize("task", ["segmentation", "pose", "classification"])
def test_each_tasks_file_is_read_and_its_labels_are_those_drawn(task: str) -> None:
    objects: dict[str, bytes] = {}
    counts = sample.write(objects.__setitem__, 3, 1, 1, task=task)
    key = sample.annotations_key(task)
    annotations = read_file(objects[key], key, task)
    assert (counts.images, counts.digits) == (5, len(annotations.objects))
    file = json.loads(objects[key])
    assert file["dataset_name"] == f"sample-digits-{task}"
    for image in file["images"]:
        scene = (scenes.picture if task == "classification" else scenes.compose)(
            image["split"], int(image["file_name"][-10:-4]) - 1
        )
        assert (image["height"], image["width"]) == scene.pixels.shape[:2]
        for digit, entry in zip(scene.digits, image["annotations"], strict=True):
            assert entry["class_id"] == digit.class_index
            if task == "segmentation":
                drawn = np.zeros(scene.pixels.shape[:2], np.uint8)
                drawn[digit.top : digit.top + digit.height, digit.left : digit.left + digit.width] = digit.mask
                assert entry["area"] == drawn.sum() == pytest.approx(_area(entry["segmentation"]))
            elif task == "pose":
                left, top, width, height = entry["bbox"]
                (_, up), (right, _), (_, down), (side, _) = zip(
                    entry["keypoints"][::3], entry["keypoints"][1::3], strict=True
                )
                assert (up, right, down, side) == (top + 0.5, left + width - 0.5, top + height - 0.5, left + 0.5)
    if task == "pose":
        assert keypoint_names(annotations) == ("top", "right", "bottom", "left")
        assert flip_index(annotations) == (0, 3, 2, 1)


def test_ten_pictures_in_a_row_show_each_digit_once() -> None:
    shown = [scenes.picture("val", number).digits[0].class_index for number in range(20)]
    assert shown == [*range(10), *range(10)]


def _area(polygons: list[list[float]]) -> float:
    """Of outlines along pixels' edges, holes cut out."""
    total = 0.0
    for polygon in polygons:
        x, y = np.array(polygon[::2]), np.array(polygon[1::2])
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def test_a_source_digit_serves_one_split_only() -> None:
    sources = {split: scenes.source_digits(split) for split in ("train", "val", "test")}
    from sklearn.datasets import load_digits

    assert sum(len(digits) for digits in sources.values()) == len(load_digits().target)
    for digits in sources.values():
        assert {class_index for class_index, _ in digits} == set(range(10))
    pictures = {split: {(index, d.shape, d.tobytes()) for index, d in digits} for split, digits in sources.items()}
    assert not pictures["train"] & pictures["test"]
    assert not pictures["train"] & pictures["val"]
    assert not pictures["val"] & pictures["test"]


def test_another_split_is_unknown() -> None:
    with pytest.raises(KeyError):
        scenes.compose("holdout", 0)
