"""A workspace folder that was moved: the next run finds every result below the new name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import laptop as machine
import pytest
from laptop import Dataset, Laptop


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", pytest.param("copied", marks=pytest.mark.matrix)])
def test_everything_is_reused_from_a_workspace_that_was_moved_or_copied(file_laptop: Laptop, tmp_path: Path, how: str):
    dataset = Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(6, 3, 3))
    gate = ("--model-name", "digits", "--gate", '{"floor": 0}')
    old = file_laptop.workspace
    receipt = file_laptop.prepare(dataset.uri)
    arguments = ["--converted", receipt["convert"], "--snapshot", receipt["snapshot"]]
    receipt["train"] = file_laptop.stage("train", *arguments, settings=machine.TOY).expect().summary["receipt"]
    arguments = ["--training", receipt["train"], "--snapshot", receipt["snapshot"], *gate]
    receipt["evaluate"] = file_laptop.stage("evaluate", *arguments).expect().summary["receipt"]
    arguments = ["--evaluation", receipt["evaluate"], "--model-name", "digits"]
    receipt["register"] = file_laptop.stage("register", *arguments).expect().summary["receipt"]

    (shutil.move if how == "moved" else shutil.copytree)(tmp_path / "workspace", tmp_path / "elsewhere")
    file_laptop.workspace = machine.file_prefix(tmp_path / "elsewhere")
    arguments = ["--dataset", dataset.uri, "--workspace", file_laptop.workspace.uri, *gate, "--json"]
    planned = json.loads(file_laptop.run("plan", "train", *arguments, *machine.sets(machine.TOY)).expect().stdout)
    assert {stage["stage"]: stage["action"] for stage in planned["stages"]} == dict.fromkeys(receipt, "reuse")
    for stage in planned["stages"]:
        assert stage["receipt"] == receipt[stage["stage"]].replace(old.uri, file_laptop.workspace.uri)
