"""Drift against the champion's snapshot: what the run's snapshot names, what validate measures, and what of it is in the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from small_datasets import BOX, dataset

from visionloop.components.snapshot.baseline import SCALAR, VARIABLE, Champion, scalars
from visionloop.components.validate import report as validation
from visionloop.core import catalog
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Computed, Outcome, Resolution
from visionloop.core.storage import open_prefix

COUNT = 40


def pets(folder: Path, share: float, bright: int = 120) -> Path:
    """A dataset of forty images more, of whose objects such a share is of the second class and large."""
    dataset(folder, "detection", None, classes=[{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}])
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    for number in range(COUNT):
        second = number < share * COUNT
        pixels = np.random.default_rng(number).integers(bright - 20, bright + 20, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"more-{number}.png")
        label = {"class_id": 1, "bbox": [1, 1, 28, 28]} if second else BOX
        entry = {"file_name": f"more-{number}.png", "width": 32, "height": 32, "split": "train", "annotations": [label]}
        document["images"].append(entry)
    path.write_text(json.dumps(document))
    return folder


class Trained:
    """A training of a dataset, as far as its lineage goes."""

    name = "train"
    logic_version = 1
    policy = POLICIES["train"]
    description = "A toy."
    arguments = catalog.stage("convert").arguments

    def resolve(self, context: Any, arguments: Any) -> Resolution:
        """Takes convert's arguments: the snapshot and, as the report, the converted dataset."""
        from visionloop.core import receipts

        loaded = {
            "snapshot": receipts.load(arguments.snapshot, "snapshot"),
            "converted": receipts.load(arguments.report, "convert"),
        }
        return Resolution(inputs={name: result.reference for name, result in loaded.items()})

    def compute(self, context: Any, resolution: Resolution, attempt: Any) -> Computed:
        """Nothing."""
        return Computed()


class Workspace:
    """A workspace in which runs are made of snapshot and validate, and champions of what they give."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self.runs = 0

    def stage(self, name: Any, **values: Any) -> Outcome:
        stage = catalog.stage(name) if isinstance(name, str) else name
        return run_stage(stage, values, Invocation(self.uri, run=f"run-{self.runs}"))

    def validated(self, folder: Path, **options: Any) -> tuple[Result, Result]:
        """A run's snapshot and report."""
        self.runs += 1
        snapshot = self.stage("snapshot", dataset=str(folder), model_name="pets").result
        assert snapshot is not None
        report = self.stage("validate", snapshot=snapshot.uri, **options).result
        assert report is not None
        return snapshot, report

    def champion(self, snapshot: Result, report: Result) -> str:
        """The variable that tells the champion that was trained on them."""
        converted = self.stage("convert", snapshot=snapshot.uri, report=report.uri).result
        assert converted is not None
        trained = self.stage(Trained(), snapshot=snapshot.uri, report=converted.uri).result
        assert trained is not None
        return msgspec.json.encode(Champion("pets/1", trained.uri, trained.receipt.digest)).decode()

    def notices(self, stage: str) -> list[str]:
        return RunRecord(open_prefix(self.uri, "results"), f"run-{self.runs}").state(stage).notices


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_a_dataset_of_other_classes_and_boxes_drifted(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = workspace.validated(pets(tmp_path / "before", 0.1))
    assert "baseline" not in before[1].receipt.parameters
    assert validation.read(before[1]).drift == []
    monkeypatch.setenv(VARIABLE, workspace.champion(*before))
    # The dataset that the champion was trained on finds its result again.
    assert workspace.validated(tmp_path / "before")[1].receipt.key == before[1].receipt.key

    snapshot, after = workspace.validated(pets(tmp_path / "after", 0.9))
    report = validation.read(after)
    assert report.baseline == before[0].receipt.scalars["snapshot_id"]
    assert {part.measure: part.drifted for part in report.drift} == {"classes": True, "box sizes": True}
    assert [entry.code for entry in report.findings] == ["drift", "drift", "class_absent", "class_absent"]
    assert 'classes 0.73 apart: "cat" 90.9% → 18.2%, "dog" 9.1% → 81.8%' in report.findings[0].sentence
    assert after.receipt.parameters["baseline"].value == {"snapshot": report.baseline}
    page = after.read("page").decode()
    assert "<h2>Drift</h2>" in page
    assert report.baseline in page

    # Once a model of this dataset is the champion, the dataset is still compared with the one before it.
    monkeypatch.setenv(VARIABLE, workspace.champion(snapshot, after))
    assert workspace.validated(tmp_path / "after")[1].receipt.key == after.receipt.key
    off = workspace.validated(tmp_path / "after", checks='{"drift": "off"}')[1]
    assert validation.read(off).drift == []
    assert "baseline" not in off.receipt.parameters
    wide = validation.read(workspace.validated(tmp_path / "after", checks='{"drift": {"threshold": 0.8}}')[1])
    assert [part.drifted for part in wide.drift] == [False, False]
    assert [entry.code for entry in wide.findings] == ["class_absent", "class_absent"]


def test_brightness_is_compared_where_both_were_decoded(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = '{"near_duplicate": "off", "blank_image": "off"}'
    bright = workspace.validated(pets(tmp_path / "bright", 0.5, 200), mode="full", checks=checks)
    monkeypatch.setenv(VARIABLE, workspace.champion(*bright))
    _, dark = workspace.validated(pets(tmp_path / "dark", 0.5, 60), mode="full", checks=checks)
    drifted = {part.measure: part for part in validation.read(dark).drift}
    assert drifted["brightness"].drifted
    assert not drifted["classes"].drifted
    assert "median 199 → 59 of 255" in drifted["brightness"].sentence
    assert sum(validation.read(dark).brightness) == COUNT + 4
    headers = validation.read(workspace.validated(tmp_path / "dark")[1])
    assert "brightness" not in {part.measure for part in headers.drift}


def test_a_champion_whose_lineage_is_gone_is_a_notice(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        VARIABLE, msgspec.json.encode(Champion("pets/1", "file:///nowhere/train/k/receipt.json")).decode()
    )
    _, report = workspace.validated(dataset(tmp_path / "set", "detection", None))
    assert "baseline" not in report.receipt.parameters
    (arguments,) = [text for text in workspace.notices("snapshot") if "drift" in text]
    assert arguments.startswith("drift is not measured: what the champion of pets was trained on can't be read")
    monkeypatch.setenv(VARIABLE, "not JSON")
    workspace.validated(tmp_path / "set")
    assert any("drift is not measured" in text for text in workspace.notices("snapshot"))


def test_without_a_champion_a_model_or_a_registry_nothing_is_compared(tmp_path: Path) -> None:
    prefix = open_prefix(str(tmp_path), "results")
    assert scalars(None, True, "snap_0", prefix, {}) == ({}, [])
    assert scalars("pets", False, "snap_0", prefix, {}) == ({}, [])
    assert scalars("pets", True, "snap_0", prefix, {VARIABLE: "{}"}) == ({}, [])
    result, notices = scalars("pets", True, "snap_0", prefix, {})
    assert result == {}
    assert "drift needs an MLflow" in notices[0]


def test_a_snapshot_that_is_gone_since_is_a_notice_of_validate(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    workspace.runs += 1
    snapshot = workspace.stage("snapshot", dataset=str(dataset(tmp_path / "set", "detection", None))).result
    assert snapshot is not None
    record = RunRecord(open_prefix(workspace.uri, "results"), f"run-{workspace.runs}")
    state = record.state("snapshot")
    state.scalars = {**state.scalars, SCALAR: {"snapshot": "file:///nowhere/snapshot/k/receipt.json", "report": ""}}
    record.write_state(state)
    assert workspace.stage("validate", snapshot=snapshot.uri).result is not None
    assert any(
        "drift is not measured: the champion's snapshot can't be read any more" in text
        for text in workspace.notices("validate")
    )


def test_a_champion_of_another_task_is_told(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_images = dataset(tmp_path / "whole", "classification", None, classes=[{"id": 0, "name": "cat"}])
    monkeypatch.setenv(VARIABLE, workspace.champion(*workspace.validated(whole_images)))
    report = workspace.validated(pets(tmp_path / "boxes", 0.1))[1]
    assert validation.read(report).drift == []
    assert workspace.notices("validate") == [
        "drift is not measured: the champion was trained for classification, and this dataset is for detection."
    ]
