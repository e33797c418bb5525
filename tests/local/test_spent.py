"""Which seconds and which GPUs of a training count."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import laptop as machine
import pytest

from visionloop.components.train import spent
from visionloop.core import progress
from visionloop.core.runs import RunRecord, StageState
from visionloop.training.supervision import child


def test_a_run_that_was_killed_before_its_first_checkpoint_counts_too(tmp_path: Path):
    workspace = machine.file_prefix(tmp_path)
    for run, seconds in {"killed": 30.0, "kept": 50.0, "own": 9.0}.items():
        RunRecord(workspace, run).write_state(StageState(stage="train", seconds=seconds))
    of_key = workspace.child(f"train/{'0' * 64}")
    assert spent.by_other_runs(None, of_key, workspace, "own") == {}
    for run in ("killed", "own", "own"):
        spent.begin(of_key, run)
    assert spent.by_other_runs(None, of_key, workspace, "own") == {"killed": 30.0}
    earlier = progress.Progress(
        attempt="", epoch=1, epochs=4, checkpoints=[], metrics={}, best_epoch=1, spent={"kept": 0.001, "own": 9.0}
    )
    assert spent.by_other_runs(earlier, of_key, workspace, "own") == {"killed": 30.0, "kept": 50.0}
    spent.forget(of_key)
    assert spent.by_other_runs(None, of_key, workspace, "own") == {}


@pytest.mark.parametrize(
    ("device", "names"),
    [("cpu", []), (None, ["GPU 0"]), ("", ["GPU 0"]), ("1", ["GPU 1"]), ("0,2", ["GPU 0", "GPU 2"]), ("mps", [])],
)
def test_only_the_gpus_that_are_computed_on_count(
    monkeypatch: pytest.MonkeyPatch, device: str | None, names: list[str]
):
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda number: f"GPU {number}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert child._devices(device) == names
