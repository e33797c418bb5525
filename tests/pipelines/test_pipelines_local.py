"""The train pipeline's graph through kfp.local, with toy stages: what runs, what is reused, what a failure does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import ToyRuns

ALL = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def artifacts(runs: ToyRuns, name: str) -> dict[str, Path]:
    """The files of a run's artifacts by name."""
    return {path.name: path for path in (runs.folder / "kfp" / name).glob("*/*/*") if path.is_file()}


def told(runs: ToyRuns, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next((runs.workspace / stage).glob("*/*/told.json")).read_text())
    return found


def test_each_stage_runs_once_and_the_second_time_everything_is_reused(toy_runs: ToyRuns) -> None:
    status, output, computed = toy_runs.run("first", epochs=3, advanced_config={"mosaic": 0}, gate='{"floor": 0.1}')
    assert status == 0, output
    assert computed == ALL
    assert told(toy_runs, "train")["set"] == ['advanced_config={"mosaic": 0}', "epochs=3"]
    assert told(toy_runs, "evaluate") == {"model_name": "Toy Model", "gate": '{"floor": 0.1}'}
    shown = artifacts(toy_runs, "first")
    assert shown["trained_model"].read_text() == shown["training_metrics"].read_text()
    assert json.loads(shown["trained_model"].read_text())["stage"] == "train"
    status, output, computed = toy_runs.run("second", epochs=3, advanced_config={"mosaic": 0}, gate='{"floor": 0.1}')
    assert status == 0, output
    assert computed == []
    for stage in ("train", "evaluate", "register"):
        state = toy_runs.state("second", stage)
        assert state is not None
        assert (state.state, state.reused) == ("succeeded", True)
        assert toy_runs.receipt("first", stage) == toy_runs.receipt("second", stage)
    assert "reuse-training" not in output  # the evaluation alone says all
    page = next(path for path in (toy_runs.folder / "kfp" / "second").glob("*/reuse-evaluation*/report"))
    assert page.read_text() == "<h1>evaluate</h1>"


def test_another_gate_evaluates_again_without_training(toy_runs: ToyRuns) -> None:
    assert toy_runs.run("first")[2] == ALL
    status, output, computed = toy_runs.run("second", gate='{"floor": 0.1}')
    assert status == 0, output
    assert computed == ["evaluate", "register"]
    assert json.loads(artifacts(toy_runs, "second")["trained_model"].read_text())["stage"] == "train"


def test_a_rejected_model_is_not_registered_then_or_later(toy_runs: ToyRuns) -> None:
    for name, wanted in (("first", ALL[:-1]), ("second", [])):
        status, output, computed = toy_runs.run(name, variables={"TOY_VERDICT": "reject"})
        assert status == 0, output
        assert computed == wanted
        assert toy_runs.state(name, "register") is None
        state = toy_runs.state(name, "evaluate")
        assert state is not None
        assert state.scalars["verdict"] == "reject"


def test_a_forced_training_is_not_found_beforehand(toy_runs: ToyRuns) -> None:
    toy_runs.run("first")
    status, output, computed = toy_runs.run("second", variables={"VISIONLOOP_FORCE": "train"})
    assert status == 0, output
    assert computed[0] == "train"


def test_a_failing_stage_stops_what_follows_and_cleanup_runs_all_the_same(toy_runs: ToyRuns) -> None:
    status, output, computed = toy_runs.run("first", variables={"TOY_FAIL": "validate"})
    assert status != 0
    assert computed == ["snapshot", "validate"]
    assert "annotations.json: images[3] has no file_name; add it." in output
    assert "Traceback" not in output
    failure = json.loads((toy_runs.workspace / "runs" / "first" / "validate.failure.json").read_text())
    assert failure["exit_code"] == 65
    cleanup = toy_runs.state("first", "cleanup")
    assert cleanup is not None
    assert cleanup.state == "succeeded"
    assert "The engine's final status: FAILED" in output
