"""Checks in the stage: what they refuse, leave out and warn of, and what of them is in the key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_datasets import BOX, dataset, stage

from visionloop.components.validate import report as validation
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.receipts import Result


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """0.png of train is also 3.png of test."""
    folder = dataset(tmp_path / "set", "detection", None)
    shutil.copy(folder / "images" / "3.png", folder / "images" / "0.png")
    return folder


def validate(folder: Path, **options: Any) -> Result:
    workspace = folder.parent / "workspace"
    split = options.pop("split", None)
    snapshot = stage("snapshot", workspace, dataset=str(folder), split=split)
    return stage("validate", workspace, snapshot=snapshot.uri, **options)


def test_a_file_in_two_splits_is_refused(leaking: Path) -> None:
    with pytest.raises(InvalidDataset) as refused:
        validate(leaking)
    assert "images/0.png of train has the same bytes as images/3.png of test" in refused.value.sentence


def test_a_severity_decides_what_is_refused_and_warned_of(leaking: Path) -> None:
    warned = validate(leaking, checks='{"same_bytes": "warning"}')
    assert warned.receipt.scalars["warnings_by_code"] == {"same_bytes": 1}
    assert warned.receipt.parameters["checks"].value == {"same_bytes": {"severity": "warning"}}
    report = validation.read(validate(leaking, checks='{"same_bytes": "off"}'))
    assert (report.errors, report.warnings, report.findings) == (0, 0, [])
    assert report.checks == {"same_bytes": {"severity": "off"}}


def test_what_became_an_error_is_left_out_or_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", None)
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    for number in range(4, 44):
        name = f"{number}.png"
        Image.new("RGB", (32, 32), (number, number, 0)).save(folder / "images" / name)
        entry = {"file_name": name, "width": 32, "height": 32, "split": "train", "annotations": [BOX]}
        document["images"].append(entry)
    document["images"][0]["annotations"] = []
    path.write_text(json.dumps(document))
    checks = '{"image_without_annotations": "error"}'
    with pytest.raises(InvalidDataset, match="is empty"):
        validate(folder, checks=checks)
    assert validation.read(validate(folder, checks=checks, on_error="quarantine")).quarantined == ["0.png"]


def test_only_what_is_not_the_default_is_in_the_key(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", None)
    plain = validate(folder)
    assert {"checks", "imgsz"} & plain.receipt.parameters.keys() == set()
    default = validate(folder, checks='{"close_boxes": {"severity": "warning", "threshold": 0.9}}')
    (tmp_path / "checks.yaml").write_text("close_boxes: {threshold: 0.8}\n")
    in_file = validate(folder, checks=str(tmp_path / "checks.yaml"))
    in_text = validate(folder, checks='{"close_boxes": {"threshold": 0.8}}')
    assert default.receipt.key == plain.receipt.key != in_file.receipt.key == in_text.receipt.key


def test_another_training_size_is_in_the_key_only_where_it_changes_what_is_found(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", None)
    plain = validate(folder)
    assert validate(folder, settings='{"imgsz": 1280}').receipt.key == plain.receipt.key
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    document["images"][0]["annotations"] = [{"class_id": 0, "bbox": [1 + number, 1, 0.3, 0.3]} for number in range(25)]
    path.write_text(json.dumps(document))
    small, large = validate(folder), validate(folder, settings='{"imgsz": 1280}')
    assert validate(folder, settings='{"imgsz": 640}').receipt.key == small.receipt.key != large.receipt.key
    assert {entry.code for entry in validation.read(small).findings} == {"tiny_boxes"}
    assert validation.read(large).findings == []
    assert large.receipt.parameters["imgsz"].value == 1280


def test_an_image_that_two_splits_share_by_name_is_not_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", None)
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    document["images"] = [entry for entry in document["images"] if entry["split"] != "test"]
    path.write_text(json.dumps(document))
    codes = {entry.code for entry in validation.read(validate(folder, split="test=val")).findings}
    assert "same_bytes" not in codes


def test_pixels_are_looked_at_in_full_alone(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", None)
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    Image.fromarray(np.stack([ramp] * 3, axis=2)).save(folder / "images" / "1.png")
    Image.fromarray(np.stack([ramp, ramp, ramp | 1], axis=2)).save(folder / "images" / "3.png")
    assert validation.read(validate(folder)).findings == []
    findings = validation.read(validate(folder, mode="full")).findings
    assert [(entry.code, entry.file_name) for entry in findings] == [
        ("blank_image", "0.png"),
        ("blank_image", "2.png"),
        ("near_duplicate", "1.png"),
    ]
    assert "looks like images/3.png of test (0 of 64 bits differ)" in findings[2].sentence
    page = validate(folder, mode="full").read("page").decode()
    assert "the other one of 1.png" in page


def test_wrong_checks_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="the nearest one is same_bytes"):
        stage("validate", tmp_path, snapshot="nowhere", checks='{"same_byte": "off"}')
