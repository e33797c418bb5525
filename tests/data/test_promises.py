"""What validate's report promises of a dataset, convert keeps: each finding that refuses nothing is carried through it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from small_datasets import BOX, LABELS, OUTLINE, POSE, converted, dataset, stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import InvalidDataset
from visionloop.core.receipts import Result
from visionloop.data.annotations.codes import CODES
from visionloop.data.images import ImageCache, decode

#: Task, labels of the first image, the finding, and how many labels of it convert writes.
LABEL_FINDINGS: list[tuple[str, list[dict[str, Any]], str, int]] = [
    ("detection", [], "image_without_annotations", 0),
    ("segmentation", [], "image_without_annotations", 0),
    ("pose", [], "image_without_annotations", 0),
    ("detection", [BOX, BOX], "duplicate", 1),
    ("segmentation", [OUTLINE, OUTLINE], "duplicate", 1),
    ("pose", [POSE, POSE], "duplicate", 1),
    ("detection", [BOX | {"segmentation": [[1, 1, 5, 1, 5, 5]]}, BOX], "duplicate", 1),
    ("detection", [BOX, BOX | {"iscrowd": 1}], "object_dropped", 1),
    ("detection", [BOX | {"iscrowd": 1}], "object_dropped", 0),
    ("detection", [BOX | {"bbox": [4, 4, 0, 8]}], "object_dropped", 0),
    ("detection", [BOX | {"bbox": [32, 4, 1, 8]}], "object_dropped", 0),
    ("segmentation", [OUTLINE | {"segmentation": [[4, 4, 9, 4, 6, 4]]}], "object_dropped", 0),
    ("segmentation", [OUTLINE | {"segmentation": [[32, 4, 33, 4, 33, 9]]}], "object_dropped", 0),
    (
        "segmentation",
        [BOX | {"iscrowd": 1, "segmentation": {"size": [32, 32], "counts": "x"}}],
        "object_dropped",
        0,
    ),
    ("pose", [POSE | {"keypoints": [5, 5, 0, 6, 6, 0]}], "object_dropped", 0),
    ("pose", [POSE | {"keypoints": [5, 99, 2, 6, 99, 2]}], "object_dropped", 0),
    ("pose", [POSE | {"keypoints": [5, 99, 2, 6, 6, 2]}], "keypoint_outside", 1),
    ("detection", [BOX | {"area": 1}], "area", 1),
    ("detection", [BOX, BOX | {"bbox": [4, 4, 8, 8.2]}], "close_boxes", 2),
]

#: What is said of the whole dataset: its top-level fields, the finding.
GENERAL_FINDINGS: list[tuple[dict[str, Any], str]] = [
    ({"classes": [{"id": 0, "name": "thing"}, {"id": 1, "name": "other"}]}, "empty_class"),
    ({"statistics": {"total_images": 9}}, "statistics"),
    ({"dataset_id": None}, "missing_metadata"),
]


def of_16_bits(path: Path) -> None:
    Image.new("I;16", (32, 32), 40_000).save(path)


def animated(path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def jpeg(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path, "JPEG")


def mirrored(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 2
    Image.new("RGB", (32, 32)).save(path, exif=exif)


def same_as_the_second(path: Path) -> None:
    shutil.copy(path.with_name("1.png"), path)


#: What writes the first image's file, and the finding.
PICTURE_FINDINGS: list[tuple[Callable[[Path], None], str]] = [
    (of_16_bits, "bit_depth"),
    (animated, "frames"),
    (jpeg, "extension"),
    (mirrored, "exif_orientation"),
    (same_as_the_second, "same_bytes"),
]

#: The findings of the tests that have no table, and those about a dataset as a whole, which change no label.
OTHER_FINDINGS = {
    "image_too_small",
    "class_absent",
    "no_labels",
    "near_duplicate",
    "blank_image",
    "class_imbalance",
    "tiny_boxes",
    "huge_boxes",
    "label_without_image",
    "drift",
}


def test_every_finding_that_refuses_nothing_is_carried_through_convert():
    """One that is added to the table must be carried here too."""
    warnings = {code for code, entry in CODES.items() if "warning" in entry.severities}
    carried = {code for _, _, code, _ in LABEL_FINDINGS} | {code for _, code in [*GENERAL_FINDINGS, *PICTURE_FINDINGS]}
    assert carried | OTHER_FINDINGS == warnings


def labels(result: Result) -> dict[str, list[str]]:
    """The lines of each label file by image, without its extension."""
    with tarfile.open(fileobj=io.BytesIO(result.read("labels"))) as archive:
        texts = {Path(member.name).stem: archive.extractfile(member) for member in archive}
        return {name: file.read().decode().splitlines() for name, file in texts.items() if file}


def kept(result: Result) -> list[str]:
    return [json.loads(line)["file_name"] for line in result.read("index").splitlines()]


@pytest.mark.parametrize(("task", "first", "code", "lines"), LABEL_FINDINGS)
def test_an_image_has_the_labels_that_the_report_promises(
    tmp_path: Path, task: str, first: list[dict[str, Any]], code: str, lines: int
):
    report, result = converted(dataset(tmp_path / "set", task, first), tmp_path / "workspace")
    assert code in {finding.code for finding in report.findings}
    written = labels(result)
    assert len(written["0"]) == lines
    assert report.labels == {"train": 1 + lines, "val": 1, "test": 1}
    assert sum(report.labels_left_out.values()) == len(first) - lines
    assert result.receipt.scalars["objects"] == sum(report.labels.values())
    assert kept(result) == ["0.png", "1.png", "2.png", "3.png"]


def test_an_image_that_trainers_pass_over_is_left_out_with_its_labels(tmp_path: Path):
    folder = dataset(tmp_path / "set", "detection", None)
    Image.new("RGB", (32, 9)).save(folder / "images" / "0.png")
    path = folder / "annotations_detection.json"
    path.write_text(
        path.read_text().replace('"height": 32', '"height": 9', 1).replace("[4, 4, 8, 8]", "[4, 1, 8, 8]", 1)
    )
    report, result = converted(folder, tmp_path / "workspace")
    assert "image_too_small" in {finding.code for finding in report.findings}
    assert report.labels == {"train": 1, "val": 1, "test": 1}
    assert report.labels_left_out == {"image left out": 1}
    assert kept(result) == ["1.png", "2.png", "3.png"]


def test_an_unlabelled_classification_image_is_left_out(tmp_path: Path):
    report, result = converted(dataset(tmp_path / "set", "classification", []), tmp_path / "workspace")
    (finding,) = [finding for finding in report.findings if finding.file_name == "0.png"]
    assert "so it is left out" in finding.sentence
    assert kept(result) == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize(("top", "code"), GENERAL_FINDINGS)
def test_what_is_said_of_the_whole_dataset_changes_no_label(tmp_path: Path, task: str, top: dict[str, Any], code: str):
    report, result = converted(dataset(tmp_path / "set", task, None, **top), tmp_path / "workspace")
    assert {finding.code for finding in report.findings} == {code}
    assert kept(result) == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(("write", "code"), PICTURE_FINDINGS)
def test_an_unusual_picture_is_kept_and_can_be_trained_on(tmp_path: Path, write: Callable[[Path], None], code: str):
    folder = dataset(tmp_path / "set", "detection", None)
    write(folder / "images" / "0.png")
    report, result = converted(folder, tmp_path / "workspace")
    assert [(finding.code, finding.severity) for finding in report.findings] == [(code, "warning")]
    assert kept(result) == ["0.png", "1.png", "2.png", "3.png"]
    assert [len(lines) for lines in labels(result).values()] == [1, 1, 1, 1]
    cache = ImageCache(tmp_path / "cache")
    snapshot = Snapshot(result.input("snapshot", "snapshot"))
    assert Converted(result).view(snapshot, tmp_path / "view", cache) == 4
    picture = decode((tmp_path / "view" / "images" / "train" / "0.png").read_bytes())
    assert picture.shape == (32, 32, 3)


@pytest.mark.parametrize("task", LABELS)
def test_a_class_that_train_never_shows_keeps_its_labels(tmp_path: Path, task: str):
    classes = [{"id": 0, "name": "thing"}, {"id": 1, "name": "other"}]
    folder = dataset(tmp_path / "set", task, None, classes=classes)
    path = folder / f"annotations_{task}.json"
    document = json.loads(path.read_text())
    document["images"][3]["annotations"][0]["class_id"] = 1
    path.write_text(json.dumps(document))
    report, result = converted(folder, tmp_path / "workspace")
    assert {finding.code for finding in report.findings} == {"class_absent"}
    assert kept(result) == ["0.png", "1.png", "2.png", "3.png"]
    assert yaml.safe_load(result.read("data"))["names"] == ["thing", "other"]
    if task != "classification":
        written = labels(result)
        assert [written[name][0].split()[0] for name in "0123"] == ["0", "0", "0", "1"]


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_labels_to_measure_is_kept(tmp_path: Path, task: str, split: str):
    folder = dataset(tmp_path / "set", task, None)
    path = folder / f"annotations_{task}.json"
    document = json.loads(path.read_text())
    for image in document["images"]:
        image["annotations"] = [] if image["split"] == split else image["annotations"]
    path.write_text(json.dumps(document))
    report, result = converted(folder, tmp_path / "workspace")
    assert "no_labels" in {finding.code for finding in report.findings if finding.severity == "warning"}
    unlabelled = {"val": "2.png", "test": "3.png"}[split]
    # A classification image without a label has no class whose folder it could lie in.
    assert (unlabelled in kept(result)) == (task != "classification")
    assert report.labels[split] == 0


@pytest.mark.parametrize("task", LABELS)
def test_a_train_split_without_labels_is_refused(tmp_path: Path, task: str):
    folder = dataset(tmp_path / "set", task, None)
    path = folder / f"annotations_{task}.json"
    document = json.loads(path.read_text())
    for image in document["images"][:2]:
        image["annotations"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidDataset, match="of train have no label, so there is nothing to learn"):
        converted(folder, tmp_path / "workspace")


def test_an_export_that_marks_every_object_as_a_crowd_is_refused(tmp_path: Path):
    folder = dataset(tmp_path / "set", "detection", None)
    path = folder / "annotations_detection.json"
    path.write_text(path.read_text().replace('"class_id": 0', '"class_id": 0, "iscrowd": 1'))
    with pytest.raises(InvalidDataset, match=r"of train have no label \(left out: crowd: 4\)"):
        converted(folder, tmp_path / "workspace")


def test_a_refused_label_is_named_before_the_split_that_it_empties(tmp_path: Path):
    folder = dataset(tmp_path / "set", "detection", None)
    path = folder / "annotations_detection.json"
    path.write_text(path.read_text().replace('"bbox": [4, 4, 8, 8]', '"bbox": null'))
    with pytest.raises(InvalidDataset, match="bbox is missing"):
        converted(folder, tmp_path / "workspace")


def test_with_test_named_val_the_images_are_both(tmp_path: Path):
    folder = dataset(tmp_path / "set", "detection", None)
    path = folder / "annotations_detection.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "val"'))
    workspace = tmp_path / "workspace"
    snapshot = stage("snapshot", workspace, dataset=str(folder), split="test=val")
    report = stage("validate", workspace, snapshot=snapshot.uri)
    result = stage("convert", workspace, snapshot=snapshot.uri, report=report.uri)
    counts = {split: snapshot.receipt.scalars[split] for split in ("train", "val", "test")}
    assert counts == {"train": 2, "val": 2, "test": 2} == {split: result.receipt.scalars[split] for split in counts}
    assert report.receipt.scalars["warnings"] == 0
    entries = [json.loads(line) for line in result.read("index").splitlines()]
    assert [(entry["file_name"], entry["path"]) for entry in entries if entry["split"] != "train"] == [
        ("2.png", "images/val/2.png"),
        ("2.png", "images/test/2.png"),
        ("3.png", "images/val/3.png"),
        ("3.png", "images/test/3.png"),
    ]
    with tarfile.open(fileobj=io.BytesIO(result.read("labels"))) as archive:
        assert {"labels/val/2.txt", "labels/test/2.txt"} <= set(archive.getnames())
    assert result.receipt.scalars["images"] == 4
