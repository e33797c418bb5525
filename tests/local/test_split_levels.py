"""Who decides the split: the run's argument, the run's configuration, the dataset, each image; strongest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import laptop as machine
import pytest
from laptop import Dataset

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import catalog
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Outcome
from visionloop.data.annotations.split_rules import SplitRule
from visionloop.data.annotations.tables import SPLITS

ARGUMENT = SplitRule(0.5, 0.25, 0.25, seed=1)
CONFIGURED = SplitRule(0.5, 0.25, 0.25, seed=2)
OF_DATASET = SplitRule(0.5, 0.25, 0.25, seed=3)
OPTION = "train=0.5,val=0.25,test=0.25,seed=1"


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    """The sample dataset, written once."""
    return machine.sample_objects(24, 8, 8)


@pytest.fixture
def dataset(tmp_path: Path, objects: dict[str, bytes]) -> Dataset:
    """The sample in a folder: its images name their splits."""
    return Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(objects)


def take(dataset: Dataset, tmp_path: Path, option: str | None = None) -> tuple[Outcome, Snapshot]:
    """Takes a snapshot in a workspace of its own each time."""
    workspace = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
    arguments = {"dataset": dataset.uri, "split": option}
    outcome = run_stage(catalog.stage("snapshot"), arguments, Invocation(workspace.as_uri()))
    assert outcome.result is not None
    return outcome, Snapshot(outcome.result)


def write_rule(dataset: Dataset, rule: SplitRule) -> None:
    metadata: dict[str, Any] = json.loads(dataset.prefix.read("metadata.json"))
    dataset.prefix.write("metadata.json", json.dumps(metadata | {"split_config": rule.canonical()}).encode())


@pytest.mark.parametrize(
    ("option", "configured", "in_dataset", "rule", "source"),
    [
        (None, False, False, None, "split field of the images"),
        (None, False, True, OF_DATASET, "metadata.json: split_config"),
        (None, True, False, CONFIGURED, "CONFIG.split_strategy"),
        (None, True, True, CONFIGURED, "CONFIG.split_strategy"),
        (OPTION, False, True, ARGUMENT, "argument"),
        (OPTION, True, True, ARGUMENT, "argument"),
    ],
)
def test_the_strongest_level_decides_and_the_manifest_says_what_it_decided(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    configured: bool,
    in_dataset: bool,
    rule: SplitRule | None,
    source: str,
):
    if in_dataset:
        write_rule(dataset, OF_DATASET)
    if configured:
        monkeypatch.setenv("CONFIG", json.dumps({"split_strategy": CONFIGURED.canonical()}))
    outcome, snapshot = take(dataset, tmp_path, option)
    own = {image["file_name"]: image["split"] for image in dataset.annotations()["images"]}
    expected = {name: rule.of(name) for name in own} if rule else own
    assert {row.file_name: row.split for row in snapshot.rows} == expected
    assert {split: outcome.scalars[split] for split in SPLITS} == {
        split: list(expected.values()).count(split) for split in SPLITS
    }
    assert snapshot.identity.split["rule"] == (rule.canonical() if rule else None)
    assert outcome.result is not None
    assert outcome.result.receipt.parameters["split"].source == source


def test_a_snapshots_id_covers_content_and_split_and_not_who_decided_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def taken(option: str | None = None) -> str:
        return take(dataset, tmp_path, option)[1].id

    by_field, by_option = taken(), taken(OPTION)
    assert taken() == by_field != by_option == taken(OPTION)
    assert taken("train=0.5,val=0.25,test=0.25,seed=2") not in (by_field, by_option)
    write_rule(dataset, ARGUMENT)
    assert taken() == by_option
    monkeypatch.setenv("CONFIG", json.dumps({"split_strategy": ARGUMENT.canonical()}))
    assert taken() == by_option
    document = dataset.annotations()
    document["images"][0]["annotations"][0]["bbox"][0] += 1.0
    dataset.write_annotations(document)
    assert taken() != by_option
