import json
from typing import Any

import pytest
from dice_samples import FILE, annotation, dataset, document, encoded, image
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations import parquet
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.images import images
from visionloop.data.formats.dice.reader import read_file


def refusal(data: bytes | dict[str, Any], task: str | None = "detection") -> str:
    with pytest.raises(InvalidDataset) as error:
        read_file(data if isinstance(data, bytes) else encoded(data), FILE, task)
    assert str(error.value).isprintable()
    assert str(error.value).startswith(f"{FILE}: ")
    return str(error.value)


def test_a_detection_file_is_read() -> None:
    read = dataset(document(), "detection")
    assert (read.task, read.name) == ("detection", "det-mvtec-ad")
    assert read.classes == (Class(id=0, name="defect", color="#d96826", supercategory="object"),)
    (only,) = images(read)
    assert (only.file_name, only.width, only.height) == ("bottle/broken_large/000.png", 900, 900)
    (label,) = only.annotations
    assert (label.class_id, label.bbox, label.iscrowd) == (0, (351.29, 286.94, 430.0, 512.22), False)


def test_no_person_is_kept() -> None:
    read = dataset(document())
    assert "@" not in str(read.images.to_pylist())
    assert b"@" not in parquet.encode(read)


def test_dates_and_versions_are_not_kept() -> None:
    read = dataset(document())
    assert "2025-11" not in str(read.images.to_pylist())
    assert b"2025-11" not in parquet.encode(read)


def test_pose_fields_are_read_back() -> None:
    classes = [{"id": 3, "name": "hand", "keypoints": ["a", "b"], "skeleton": [[1, 2]], "flip_pairs": [[0, 1]]}]
    labels = [annotation(class_id=3, class_name="hand", keypoints=[1, 2, 2, 3, 4.5, 1])]
    value = document([image(annotations=labels)], classes=classes, task_type="keypoints")
    read = dataset(value, "pose")
    (only,) = images(read)
    assert only.annotations[0].keypoints == (1.0, 2.0, 2.0, 3.0, 4.5, 1.0)
    assert read.classes[0].flip_pairs == ((0, 1),)


def test_the_file_decides_its_task_when_none_is_asked_for() -> None:
    assert dataset(document()).task == "detection"
    assert dataset(document(task_type="instance_segmentation")).task == "segmentation"


def test_a_file_without_task_type_is_read_for_the_task_asked_for() -> None:
    value = document()
    del value["task_type"]
    assert dataset(value, "pose").task == "pose"
    assert "task_type is missing" in refusal(value, None)


@pytest.mark.parametrize(
    ("given_split", "split"),
    [
        ("train", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("test", "test"),
        ("", None),
        (None, None),
    ],
)
def test_splits_are_read(given_split: str | None, split: str | None) -> None:
    assert dataset(document([image(split=given_split)])).images["split"].to_pylist() == [split]


def test_a_missing_split_is_none() -> None:
    value = image()
    del value["split"]
    assert dataset(document([value])).images["split"].to_pylist() == [None]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_file(b"\xef\xbb\xbf" + encoded(document()), FILE, None) == dataset(document())


def changed(path: str, value: Any) -> dict[str, Any]:
    """A valid document with one field set: ``images.0.width``."""
    result: Any = document([image(), image("b.png", 2), image("c.png", 3), image("d.png", 4)])
    node = result
    *parts, last = path.split(".")
    for part in parts:
        node = node[int(part) if part.isdigit() else part]
    node[last] = value
    return result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            changed("images.3.annotations.0.bbox", [1, 2, 3]),
            "annotations_detection.json: images[3].annotations[0].bbox: expected 4 numbers [x, y, width, height], "
            "got [1, 2, 3]; fix it in the labelling tool and export again.",
        ),
        (
            changed("images.3.annotations.0.bbox", [1, 2, 3, "4"]),
            "bbox: expected 4 numbers [x, y, width, height], got [1",
        ),
        (changed("images.0.annotations.0.bbox_format", "xyxy"), 'bbox_format: expected xywh, got "xyxy"'),
        (changed("images.0.annotations.0.iscrowd", 2), "iscrowd: expected 0 or 1, got 2"),
        (changed("images.0.annotations.0.class_id", "car"), "class_id: expected the whole number of a class, got"),
        (changed("images.0.annotations.0.attributes", []), "images[0].annotations[0].attributes: expected an object"),
        (changed("images.1.annotations", None), "images[1].annotations: expected a list of annotations, got null"),
        (
            changed("images.1.split", "dev"),
            'images[1].split: expected train, val or test, or no split at all, got "dev"',
        ),
        (changed("images.2.width", 0), "images[2].width: expected a whole number of pixels above 0, got 0"),
        (changed("images.2.height", 10.5), "images[2].height: expected a whole number of pixels above 0, got 10.5"),
        (changed("images", []), "images is empty"),
        (changed("classes", []), "classes is empty"),
        (changed("classes", [{"id": 0, "name": "a"}, {"id": 0, "name": "b"}]), "classes[1].id: 0 is already the id of"),
        (
            changed("classes", [{"id": 0, "name": "a"}, {"id": 1, "name": "a"}]),
            'classes[1].name: "a" is already the name',
        ),
        (changed("classes", [{"id": -1, "name": "a"}]), "classes[0].id: expected int >= 0"),
        (changed("classes", [{"id": 0, "name": " "}]), 'classes[0].name: " " is empty or holds a control character'),
        (changed("classes", [{"id": 0, "name": "a\nb"}]), 'classes[0].name: "a\\nb" is empty or holds a control'),
        (changed("images.2.file_name", "b.png"), 'images[2].file_name: "b.png" is already the name of images[1]'),
        (changed("format_version", "2.0"), 'format_version: "2.0" can\'t be read, only DICE 1.x'),
        (changed("format_version", "1."), "only DICE 1.x"),
        (changed("format_version", 1.0), "format_version: expected str, got float"),
        (changed("task_type", "classification"), 'the file says "classification", but detection was asked for'),
        (changed("task_type", "ocr"), 'task_type: "ocr" is not a task'),
        ({"info": {}, "images": [], "annotations": [], "categories": []}, "this is the file of a COCO dataset"),
    ],
)
def test_a_wrong_field_is_named(value: dict[str, Any], expected: str) -> None:
    assert expected in refusal(value)


def test_a_missing_field_is_named() -> None:
    value = document()
    del value["images"][0]["width"]
    assert "images[0].width is missing" in refusal(value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is an absolute path"),
        ("../secret.png", "holds a relative folder"),
        ("a/../../b.png", "holds a relative folder"),
        ("a/./b.png", "holds a relative folder"),
        ("a//b.png", "holds an empty folder"),
        ("a/", "holds an empty folder or ends with a slash"),
        ("a\\b.png", "holds a backslash"),
        ("a\0.png", "holds a control character"),
        ("a\nb.png", "holds a control character"),
        ("a\x85b.png", "holds a control character"),
        ("x" * 1025, "is longer than 1024 bytes"),
        ("é" * 513, "is longer than 1024 bytes"),
    ],
)
def test_a_hostile_file_name_is_refused(name: str, reason: str) -> None:
    sentence = refusal(document([image(name)]))
    assert reason in sentence
    assert "images[0].file_name" in sentence


@pytest.mark.parametrize("name", ["a..b.png", "…/x.png", "한국어/사진 1.jpg", "a" * 1020 + ".png", ".hidden.png"])
def test_an_odd_but_safe_file_name_is_taken(name: str) -> None:
    assert dataset(document([image(name)])).images["file_name"].to_pylist() == [name]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is not JSON (line 1, column 1"),
        (b"not json", "is not JSON (line 1, column 1"),
        (encoded(document())[:-5], "is not JSON (line 1"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (encoded(document()).replace(b"bottle", b"b\xe9ttle"), "is not UTF-8 text"),
        (
            encoded(document()).replace(b"351.29", b"NaN"),
            "images[0].annotations[0].bbox[0]: nan is not a finite number",
        ),
        (encoded(document()).replace(b"430.0", b"-Infinity"), "images[0].annotations[0].bbox[2]: -inf is not a finite"),
        (encoded(document()).replace(b"430.0", b"1e999"), "images[0].annotations[0].bbox: expected 4 numbers"),
        (encoded(document()).replace(b'"defect"', b'"\\ud800"'), "classes[0].name: the text is not valid Unicode"),
        (encoded(document()).replace(b'"attributes": {}', b'"attributes": {"a": ' + b"[" * 5000), "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(data: bytes, expected: str) -> None:
    assert expected in refusal(data)


@given(st.binary(max_size=60))
@example(b"{}")
def test_any_bytes_end_in_one_sentence(data: bytes) -> None:
    refusal(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


FIELDS = [
    "format_version",
    "task_type",
    "dataset_id",
    "statistics",
    "classes",
    "classes.0.id",
    "classes.0.name",
    "images",
    "images.0.id",
    "images.0.file_name",
    "images.0.split",
    "images.0.width",
    "images.0.annotations",
    "images.0.annotations.0.bbox",
    "images.0.annotations.0.segmentation",
    "images.0.annotations.0.keypoints",
    "images.0.annotations.0.attributes",
]


@given(
    st.sampled_from(FIELDS),
    JSON,
)
@example("images", [None, False])
def test_any_value_in_a_field_is_read_or_refused_in_one_sentence(path: str, value: Any) -> None:
    data = json.dumps(changed(path, value)).encode()
    try:
        read = read_file(data, FILE, None)
    except InvalidDataset:
        refusal(data, None)
    else:
        assert read.classes
        assert len(read.images)
