from typing import Any
from unittest import mock

import numpy as np
import pytest
from dice_samples import annotation, dataset, document, documents, image, pictures
from dice_samples import label as label_of
from hypothesis import given

from visionloop.data.annotations import checks
from visionloop.data.annotations.checks import check
from visionloop.data.annotations.findings import Finding
from visionloop.data.headers import MISSING, Header, Missing

CLASSES = [{"id": 0, "name": "defect"}, {"id": 1, "name": "class 1"}]


def labelled(task_type: str = "object_detection", classes: list[dict[str, Any]] | None = None, **fields: Any) -> Any:
    value = document([image(annotations=[annotation(**fields)])], task_type=task_type)
    if classes is not None:
        value["classes"] = classes
    return dataset(value)


def findings_of(value: Any, headers: dict[str, Header | Missing | None] | None = None) -> dict[str, Finding]:
    return {finding.code: finding for finding in check(value, headers)}


def test_a_right_dataset_has_no_findings() -> None:
    value = document(
        statistics={
            "total_images": 1,
            "total_annotations": 1,
            "avg_annotations_per_image": 1.0,
            "class_distribution": {"defect": 1},
            "split_distribution": {"train": 1},
        }
    )
    assert check(dataset(value), {"bottle/broken_large/000.png": Header(900, 900)}) == []


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        (
            {"class_id": 7},
            "unknown_class",
            "annotations_detection.json: bottle/broken_large/000.png: images[0].annotations[0].class_id 7 is not a class of the file (0); "
            "correct the label or add the class.",
        ),
        (
            {"class_name": "crack"},
            "class_name",
            'annotations_detection.json: bottle/broken_large/000.png: images[0].annotations[0].class_name "crack" disagrees with class_id 0, '
            'which is "defect"; correct the label.',
        ),
        ({"image_id": 2}, "image_id", "image_id 2 is not the id of the image that it lies in, 1"),
        ({"bbox": None}, "missing_bbox", "images[0].annotations[0].bbox is missing; draw the box."),
        ({"bbox": [10, 10, 5, -5]}, "empty_bbox", "bbox [10, 10, 5, -5] has a negative width or height"),
        ({"bbox": [-2, 0, 10, 10]}, "bbox_outside", "bbox [-2, 0, 10, 10] reaches outside the image of 900 × 900"),
        ({"bbox": [0, 0, 902, 10]}, "bbox_outside", "reaches outside the image"),
        ({"bbox": [0, 1e308, 1e308, 1e308]}, "bbox_outside", "[0, 1e+07, 1e+07, 1e+07] reaches outside"),
    ],
)
def test_a_wrong_label_is_an_error_of_its_image(fields: dict[str, Any], code: str, sentence: str) -> None:
    finding = findings_of(labelled(area=None, **fields))[code]
    assert (finding.severity, finding.file_name) == ("error", "bottle/broken_large/000.png")
    assert sentence in finding.sentence
    assert finding.field in finding.sentence


@pytest.mark.parametrize("bbox", [[-1, -1, 902, 902], [0, 0, 900, 900], [899.5, 0, 1.4, 1]])
def test_a_box_may_reach_a_pixel_outside(bbox: list[float]) -> None:
    assert check(labelled(bbox=bbox, area=None), None) == []


@pytest.mark.parametrize(("area", "warned"), [(220255.55, False), (220254.6, False), (220300, True), (0, True)])
def test_area_is_compared_with_a_tolerance(area: float, warned: bool) -> None:
    findings = findings_of(labelled(area=area))
    assert ("area" in findings) is warned
    assert all(finding.severity == "warning" for finding in findings.values())


def test_the_area_of_polygons_is_not_compared_with_the_box() -> None:
    assert check(labelled(area=9, segmentation=[[1, 1, 9, 1, 9, 9]]), None) == []


def test_a_hostile_class_name_cannot_break_the_line() -> None:
    sentence = findings_of(labelled(class_name="\x1b[2J\ndefect\u202e" + "x" * 999))["class_name"].sentence
    assert sentence.isprintable()
    assert len(sentence) < 300


def test_dense_and_other_class_ids_are_told() -> None:
    dense = [{"id": index, "name": str(index)} for index in range(5)]
    assert "(0 to 4)" in findings_of(labelled(class_id=7, classes=dense))["unknown_class"].sentence
    other = [{"id": 3, "name": "a"}, {"id": 5, "name": "b"}]
    assert "(3, 5)" in findings_of(labelled(class_id=7, classes=other))["unknown_class"].sentence


def test_images_are_compared_with_what_was_read_of_them() -> None:
    read = dataset(document([image(f"{name}.png", index) for index, name in enumerate("abcd")]))
    headers: dict[str, Header | Missing | None] = {
        "a.png": Header(900, 900),
        "b.png": Header(640, 480),
        "c.png": None,
        "d.png": MISSING,
    }
    findings = [finding for finding in check(read, headers) if finding.severity == "error"]
    assert [(finding.file_name, finding.code) for finding in findings] == [
        ("b.png", "image_size"),
        ("c.png", "unreadable_image"),
        ("d.png", "missing_image"),
    ]
    assert "images[1].width and height say 900 × 900, but images/b.png is 640 × 480" in findings[0].sentence
    assert "images[3].file_name images/d.png does not exist" in findings[2].sentence
    assert not [finding for finding in check(read, None) if finding.severity == "error"]


def test_an_image_that_no_trainer_would_read_is_an_error() -> None:
    read = dataset(document([image("a.gif", 1), image("b", 2), image("c.JPG", 3)]))
    errors = [finding.file_name for finding in check(read, None) if finding.code == "image_extension"]
    assert errors == ["a.gif", "b"]


def test_an_image_without_annotations_is_background_or_left_out() -> None:
    value = document([image(annotations=[]), image("b.png", 2)])
    finding = findings_of(dataset(value))["image_without_annotations"]
    assert (finding.severity, finding.file_name) == ("warning", "bottle/broken_large/000.png")
    assert "kept as background" in finding.sentence
    value["task_type"] = "classification"
    assert "left out" in findings_of(dataset(value))["image_without_annotations"].sentence


@pytest.mark.parametrize(("width", "height", "warned"), [(9, 300, True), (300, 9, True), (10, 10, False)])
def test_an_image_with_a_short_side_is_left_out(width: int, height: int, warned: bool) -> None:
    findings = findings_of(dataset(document([image(width=width, height=height, annotations=[])])))
    assert ("image_too_small" in findings) == warned
    if warned:
        assert f"{width} × {height}" in findings["image_too_small"].sentence


def test_an_empty_class_and_missing_names_are_warnings() -> None:
    value = document(classes=CLASSES, dataset_id=None)
    del value["dataset_name"]
    findings = check(dataset(value), None)
    assert {finding.severity for finding in findings} == {"warning"}
    assert [finding.field for finding in findings] == ["classes[1]", "dataset_id", "dataset_name"]


def test_a_repeated_box_is_a_warning() -> None:
    labels = [annotation(0), annotation(1, bbox=[1, 2, 3, 4], area=None), annotation(2)]
    finding = findings_of(dataset(document([image(annotations=labels)])))["duplicate"]
    assert finding.field == "images[0].annotations[2]"
    assert "repeats annotations[0]" in finding.sentence


def test_classification_takes_one_class_an_image() -> None:
    entry = {"id": 1, "image_id": 1, "class_id": 0, "class_name": "defect", "attributes": {}}
    value = document([image(annotations=[entry, entry])], classes=CLASSES, task_type="classification")
    assert not [finding for finding in check(dataset(value), None) if finding.severity == "error"]
    value["images"][0]["annotations"].append(entry | {"class_id": 1, "class_name": "class 1"})
    finding = findings_of(dataset(value))["several_classes"]
    assert "2 classes (0, 1), but an image has one" in finding.sentence


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        ([[1, 1, 9, 1, 9, 9]], None),
        (None, "missing_segmentation"),
        ([], "missing_segmentation"),
        ([[1, 1, 9, 1]], "polygon_points"),
        ([[1, 1, 9, 1, 9, 9], [1, 1, 9, 1, 9, 9, 4]], "polygon_points"),
        ([[1, 1, 950, 1, 9, 9]], "polygon_outside"),
        ({"size": [900, 900], "counts": "abc"}, "run_length_mask"),
    ],
)
def test_polygons_are_checked(segmentation: Any, code: str | None) -> None:
    read = labelled("segmentation", bbox=None, area=12, segmentation=segmentation)
    errors = [finding.code for finding in check(read, None) if finding.severity == "error"]
    assert errors == ([code] if code else [])


def test_a_crowd_may_be_a_mask() -> None:
    mask = {"size": [900, 900], "counts": [1, 2]}
    assert list(findings_of(labelled("segmentation", iscrowd=1, segmentation=mask))) == ["object_dropped"]


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [
        ("object_detection", {"iscrowd": 1}, "is a crowd region, so it is left out"),
        ("object_detection", {"bbox": [10, 10, 0, 5]}, "has no width or no height"),
        ("object_detection", {"bbox": [10, 10, 5, 0]}, "has no width or no height"),
        ("object_detection", {"bbox": [-1, 10, 1, 5]}, "lies at the image's border with nothing inside"),
        ("object_detection", {"bbox": [900, 10, 1, 5]}, "lies at the image's border with nothing inside"),
        ("instance_segmentation", {"segmentation": [[1, 1, 9, 1, 5, 1]]}, "has no width or no height"),
        ("instance_segmentation", {"segmentation": [[900, 1, 901, 1, 901, 9]]}, "at the image's border with nothing"),
        ("keypoints", {"keypoints": [5, 5, 0, 6, 6, 0]}, "has no labelled keypoint in the image"),
        ("keypoints", {"keypoints": [5, 950, 2, 950, 6, 1]}, "has no labelled keypoint in the image"),
    ],
)
def test_an_object_that_conversion_drops_is_told(task: str, fields: dict[str, Any], words: str) -> None:
    value = labelled(task, HAND if task == "keypoints" else None, area=None, **fields)
    findings = findings_of(value)
    assert words in findings["object_dropped"].sentence
    assert findings["object_dropped"].severity == "warning"
    assert not [finding for finding in findings.values() if finding.severity == "error"]
    assert label_of(value) == ""


def test_what_an_image_drops_for_one_reason_is_one_finding() -> None:
    labels = [annotation(number, iscrowd=1, bbox=[number, 1, 5, 5], area=None) for number in range(4)]
    dropped = [
        entry for entry in check(dataset(document([image(annotations=labels)])), None) if entry.code == "object_dropped"
    ]
    assert [entry.field for entry in dropped] == ["images[0].annotations[0]"]
    assert "is a crowd region (as 3 more of this image)" in dropped[0].sentence


@pytest.mark.parametrize("outside", [0.0, 0.9, 1.0, 1.1])
def test_boxes_polygons_and_keypoints_have_one_tolerance_at_the_border(outside: float) -> None:
    edge = 900 + outside
    codes = {
        "bbox_outside": labelled(bbox=[100, 100, edge - 100, 50], area=None),
        "polygon_outside": labelled("segmentation", segmentation=[[1, 1, edge, 1, 9, 9]], area=None),
        "keypoint_outside": labelled("pose", HAND, keypoints=[edge, 5, 2, 7, 7, 2]),
    }
    for code, value in codes.items():
        assert (code in findings_of(value)) is (outside > 1), code
        numbers = label_of(value).split()
        assert all(0 <= float(number) <= 1 for number in numbers[1:] if value.task != "pose"), code
    # A keypoint within the tolerance is clipped, one outside is not labelled.
    assert numbers[5:8] == (["1", "0.00555556", "2"] if outside <= 1 else ["0", "0", "0"])


HAND = [{"id": 0, "name": "defect", "keypoints": ["tip", "root"], "flip_pairs": [[0, 1]]}]


@pytest.mark.parametrize(
    ("keypoints", "code"),
    [
        ([1, 1, 2, 5, 5, 0], None),
        ([1, 1, 2, -9, -9, 0], None),
        (None, "missing_keypoints"),
        ([1, 1, 2], "keypoints_length"),
        ([1, 1, 2, 5, 5], "keypoints_length"),
        ([1, 1, 2, 5, 5, 3], "keypoints_visibility"),
        ([1, 1, 2, 950, 5, 1], "keypoint_outside"),
    ],
)
def test_keypoints_are_checked(keypoints: Any, code: str | None) -> None:
    findings = check(labelled("pose", HAND, keypoints=keypoints), None)
    assert [finding.code for finding in findings] == ([code] if code else [])


def test_keypoints_without_names_must_agree_with_each_other() -> None:
    labels = [
        annotation(0, keypoints=[1, 1, 2]),
        annotation(1, bbox=[0, 0, 5, 5], area=25, keypoints=[1, 1, 2, 2, 2, 2]),
    ]
    finding = findings_of(dataset(document([image(annotations=labels)], task_type="pose")))["keypoints_length"]
    assert finding.field == "images[0].annotations[1].keypoints"


def test_classes_must_agree_on_keypoints() -> None:
    classes = [*HAND, {"id": 1, "name": "foot", "keypoints": ["heel"]}]
    finding = findings_of(labelled("pose", classes, keypoints=[1, 1, 2, 5, 5, 0]))["keypoints_differ"]
    assert (finding.severity, finding.file_name) == ("error", None)
    assert "(class 0: 2, class 1: 1)" in finding.sentence


@pytest.mark.parametrize("pairs", [[[0, 2]], [[0, 0]], [[0, 1], [1, 0]], [[-1, 0]]])
def test_wrong_flip_pairs_are_an_error(pairs: list[list[int]]) -> None:
    classes = [HAND[0] | {"flip_pairs": pairs}]
    assert "flip_pairs" in findings_of(labelled("pose", classes, keypoints=[1, 1, 2, 5, 5, 0]))


@pytest.mark.parametrize(
    ("field", "value", "warned"),
    [
        ("total_images", 3, False),
        ("total_images", 4, True),
        ("total_annotations", 3, True),
        ("avg_annotations_per_image", 1.33, False),
        ("avg_annotations_per_image", 1.3, True),
        ("class_distribution", {"defect": 4, "class 1": 0}, False),
        ("class_distribution", {"defect": 3}, True),
        ("split_distribution", {"train": 2, "val": 1}, False),
        ("split_distribution", {"train": 3}, True),
    ],
)
def test_statistics_are_compared(field: str, value: Any, warned: bool) -> None:
    boxes = [annotation(0, image_id=0), annotation(1, image_id=0, bbox=[0, 0, 5, 5], area=25)]
    images = [image("a.png", 0, annotations=boxes), image("b.png", 1), image("c.png", 2, split="val")]
    findings = findings_of(dataset(document(images, statistics={field: value})))
    assert set(findings) == ({"statistics"} if warned else set())
    if warned:
        assert findings["statistics"].field == f"statistics.{field}"


@given(documents())
def test_any_valid_document_can_be_checked(value: dict[str, Any]) -> None:
    for task in ("object_detection", "segmentation", "classification", "pose"):
        read = dataset(value | {"task_type": task})
        for finding in check(read, dict.fromkeys(read.images["file_name"].to_pylist(), MISSING)):
            assert finding.sentence.startswith(f"{read.file}: ")
            assert finding.sentence.isprintable()
            assert finding.file_name is None or finding.file_name in {entry.file_name for entry in pictures(read)}


@given(documents())
def test_looking_at_suspicious_images_alone_finds_what_looking_at_all_does(value: dict[str, Any]) -> None:
    read = dataset(value)
    result = check(read)
    with mock.patch.object(checks._Checks, "_suspicious", lambda self: np.ones(len(self.read.images), bool)):
        assert result == check(read)


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_objects_looked_at_in_parts_have_the_same_findings(at_once: int) -> None:
    """Each image has a box that lies outside of it, one without a class, one without area, or none that is wrong."""
    wrong: list[dict[str, Any]] = [{"bbox": [-9, 0, 20, 20]}, {"class_id": 9}, {"bbox": [5, 5, 0, 3]}, {}]
    images = [
        image(f"{number}.png", number, annotations=[annotation(), annotation(1, **wrong[number % 4])][number % 2 :])
        for number in range(9)
    ]
    read = dataset(document(images))
    whole = check(read)
    assert len({finding.file_name for finding in whole}) > 5
    with mock.patch.object(checks, "_AT_ONCE", at_once):
        assert check(read) == whole
