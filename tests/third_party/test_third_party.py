"""A stage and a trainer from outside the package, found by the entry points of a distribution of their own."""

from __future__ import annotations

import json
from pathlib import Path

import laptop as machine
import pytest
from laptop import TOY, Dataset, Laptop

from visionloop.core import catalog
from visionloop.pipelines.targets import cluster
from visionloop.training.catalog import trainer as trainer_named
from visionloop.training.catalog import trainers


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """The distribution stands on this process's path as well."""
    monkeypatch.syspath_prepend(str(machine.THIRD_PARTY))
    catalog.load.cache_clear()
    yield
    catalog.load.cache_clear()


@pytest.fixture
def snapshot(file_laptop: Laptop, tmp_path: Path) -> str:
    """The URI of a small dataset's snapshot."""
    Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(6, 3, 3))
    return str(file_laptop.stage("snapshot", "--dataset", str(tmp_path / "digits")).expect().summary["receipt"])


def test_a_foreign_stage_runs_is_reused_and_leaves_a_receipt(file_laptop: Laptop, snapshot: str):
    ended = file_laptop.stage("inventory", "--snapshot", snapshot, "--run", "one").expect()
    summary = ended.summary
    assert (summary["stage"], summary["reused"], summary["classes"]) == ("inventory", False, 10)
    result = file_laptop.result("inventory", summary["key"])
    counts = json.loads(result.read("inventory"))
    assert sum(counts.values()) == summary["objects"]
    assert result.receipt.inputs["snapshot"].receipt == snapshot
    again = file_laptop.stage("inventory", "--snapshot", snapshot).expect().summary
    assert (again["reused"], again["receipt"]) == (True, summary["receipt"])
    fewer = file_laptop.stage("inventory", "--snapshot", snapshot, "--least", "5").expect().summary
    assert fewer["key"] != summary["key"]
    assert file_laptop.record("one").state("inventory").state == "succeeded"


def test_a_foreign_stage_has_help_with_an_example(file_laptop: Laptop):
    text = file_laptop.run("stage", "inventory", "--help").expect().stdout
    assert "Counts a snapshot's objects by class." in text
    assert "Example: visionloop stage inventory --snapshot" in text
    assert "inventory" in file_laptop.run("stage", "--help").expect().stdout


def test_a_foreign_stage_ends_with_the_errors_of_the_table(file_laptop: Laptop):
    missing = f"{file_laptop.workspace.uri}/snapshot/none/receipt.json"
    assert missing in file_laptop.stage("inventory", "--snapshot", missing).refused(65)
    assert "inventory needs --snapshot" in file_laptop.stage("inventory").refused(78)


def test_without_the_distribution_the_stage_and_the_trainer_are_unknown(file_laptop: Laptop, snapshot: str):
    without: dict[str, str | None] = {"PYTHONPATH": None}
    ended = file_laptop.stage("inventory", "--snapshot", snapshot, variables=without)
    assert ended.code == 2
    assert "No such command 'inventory'" in ended.stderr


def test_a_foreign_trainer_brings_its_own_policy_row_and_settings(installed: None):
    trainer = trainer_named("toy")
    assert cluster().trainers["toy"].image == "example-trainer"
    assert trainer.policy.gpus == 0
    assert set(trainers()) >= {"toy", "ultralytics"}
    assert catalog.stage("inventory").policy.timeout == 120


def test_a_foreign_trainers_settings_are_checked_like_its_own_librarys(file_laptop: Laptop, snapshot: str):
    report = file_laptop.stage("validate", "--snapshot", snapshot).expect().summary["receipt"]
    converted = file_laptop.stage("convert", "--snapshot", snapshot, "--report", report).expect().summary["receipt"]
    arguments = ["--converted", converted, "--snapshot", snapshot]
    for setting, sentence in {
        "momentum=2": "momentum",
        "mosaic=0": "'mosaic' in --set is not a setting",
        "model=yolo11n": "the weights of model yolo11n were looked for in",
        "fault=none such": "fault",
    }.items():
        assert sentence in file_laptop.stage("train", *arguments, settings=(*TOY, setting)).refused(78)
    untracked: dict[str, str | None] = {"MLFLOW_TRACKING_URI": None}
    trained = file_laptop.stage("train", *arguments, settings=TOY, variables=untracked).expect().summary
    receipt = file_laptop.receipt("train", trained["key"])
    assert receipt.tracking == "not tracked"
    assert receipt.parameters["trainer"].value == "toy"
    assert "numpy" in receipt.versions
    assert {"fault", "hold_until", "workers"}.isdisjoint(receipt.parameters)
