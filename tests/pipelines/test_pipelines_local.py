"""The pipelines' graphs through kfp.local, with toy stages: what runs, what is reused, what a failure does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy_runs import RETRAIN, ToyRuns

from visionloop.core.runs import StageState

pytestmark = pytest.mark.slow

ALL = ["snapshot", "validate", "convert", "train", "evaluate", "register"]
STRICT = '{"floor": 0.9}'


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status, output, and the stages that computed."""

    status: int
    output: str
    computed: list[str]


@dataclass
class History:
    """Runs in one workspace, one after the other."""

    toys: ToyRuns
    runs: dict[str, Ended]

    def state(self, run: str, stage: str) -> StageState:
        state = self.toys.state(run, stage)
        assert state is not None
        return state

    def artifact(self, run: str, name: str) -> str:
        """The file of a run's artifact."""
        (path,) = (self.toys.folder / "kfp" / run).glob(f"*/*/{name}")
        return path.read_text()


@pytest.fixture(scope="module")
def history(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    (folder / "toys").symlink_to(toys / "toys")
    result = History(ToyRuns(folder), {})
    settings: dict[str, Any] = {"epochs": 3, "advanced_config": {"mosaic": 0}}
    reject = {"TOY_VERDICT": "reject"}
    result.runs["first"] = Ended(*result.toys.run("first", **settings))
    result.runs["again"] = Ended(*result.toys.run("again", **settings))
    result.runs["exported"] = Ended(*result.toys.run("exported", export="onnx", **settings))
    result.runs["strict"] = Ended(*result.toys.run("strict", gate=STRICT, variables=reject, **settings))
    result.runs["strict-again"] = Ended(*result.toys.run("strict-again", gate=STRICT, **settings))
    result.runs["forced"] = Ended(*result.toys.run("forced", variables={"VISIONLOOP_FORCE": "train"}, **settings))
    return result


def test_each_stage_runs_once_and_is_told_what_was_given(history: History) -> None:
    ended = history.runs["first"]
    assert ended.status == 0, ended.output
    assert ended.computed == ALL
    fields = {
        stage: json.loads(next((history.toys.workspace / stage).glob("*/*/told.json")).read_text())
        for stage in ("snapshot", "validate", "train")
    }
    named = {"dataset": "somewhere", "model_name": "Toy Model"}
    assert fields["snapshot"] == {
        "snapshot": "",
        "task": "",
        "split": "",
        "dataset_format": "",
        "classes": "",
        "where": "",
        **named,
    }
    assert fields["validate"] == {"mode": "headers", "on_error": "fail", "checks": ""}
    assert fields["train"] == {
        "settings": {"epochs": 3, "advanced_config": {"mosaic": 0}},
        "model_name": "Toy Model",
    }
    assert json.loads(history.artifact("first", "trained_model"))["stage"] == "train"
    assert history.artifact("first", "training_metrics") == history.artifact("first", "trained_model")


def test_the_second_time_everything_is_reused(history: History) -> None:
    ended = history.runs["again"]
    assert ended.status == 0, ended.output
    assert ended.computed == []
    for stage in ALL:
        state = history.state("again", stage)
        assert (state.state, state.reused) == ("succeeded", True)
        assert history.toys.receipt("first", stage) == history.toys.receipt("again", stage)
    assert json.loads(history.artifact("again", "trained_model"))["stage"] == "train"
    pages = (history.toys.folder / "kfp" / "again").rglob("report")
    (page,) = [path for path in pages if path.parent.name.startswith("reuse-evaluation")]
    assert page.read_text() == "<h1>evaluate</h1>"


def test_a_model_is_exported_before_it_is_registered_where_formats_are_named(history: History) -> None:
    ended = history.runs["exported"]
    assert ended.status == 0, ended.output
    assert ended.computed == ["export", "register"]
    exported, registered = (history.toys.receipt("exported", stage) for stage in ("export", "register"))
    assert exported.parameters["export"].value == "onnx"
    assert registered.parameters["exports"].value == history.state("exported", "export").receipt
    for run in ("first", "again"):
        assert history.toys.state(run, "export") is None
        assert history.toys.receipt(run, "register").parameters["exports"].value == ""


def test_another_gate_evaluates_again_without_training_and_a_rejected_model_is_not_registered(
    history: History,
) -> None:
    ended = history.runs["strict"]
    assert ended.status == 0, ended.output
    assert ended.computed == ["evaluate"]
    assert json.loads(history.artifact("strict", "trained_model"))["stage"] == "train"
    assert history.state("strict", "evaluate").scalars["verdict"] == "reject"
    assert history.toys.state("strict", "register") is None


def test_a_model_that_was_rejected_before_is_not_registered_either(history: History) -> None:
    ended = history.runs["strict-again"]
    assert ended.status == 0, ended.output
    assert ended.computed == []
    assert history.state("strict-again", "evaluate").reused
    assert history.toys.state("strict-again", "register") is None


def test_a_forced_training_is_not_found_beforehand(history: History) -> None:
    ended = history.runs["forced"]
    assert ended.status == 0, ended.output
    assert ended.computed == ["train"]


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


POLICY = '{"min_new_images": 50}'


def test_a_retraining_that_is_worth_it_does_what_a_training_does(toy_runs: ToyRuns) -> None:
    status, output, computed = toy_runs.run("night", pipeline=RETRAIN, retraining=POLICY, epochs=3)
    assert status == 0, output
    assert computed == ALL
    snapshot = toy_runs.state("night", "snapshot")
    assert snapshot is not None
    assert snapshot.scalars["go"] == "true"
    status, output, computed = toy_runs.run("same-settings", epochs=3)
    assert (status, computed) == (0, []), output


def test_a_retraining_that_is_not_worth_it_ends_well_after_snapshot(toy_runs: ToyRuns) -> None:
    skip = {"TOY_SKIP": "skipped: 12 new images, 50 needed"}
    status, output, computed = toy_runs.run("night", pipeline=RETRAIN, retraining=POLICY, variables=skip)
    assert status == 0, output
    assert computed == ["snapshot"]
    assert {path.stem for path in (toy_runs.workspace / "runs" / "night").iterdir()} == {"run", "snapshot", "cleanup"}
    snapshot = toy_runs.state("night", "snapshot")
    assert snapshot is not None
    assert (snapshot.state, snapshot.scalars["reason"]) == ("succeeded", skip["TOY_SKIP"])


def test_a_training_asks_no_policy(toy_runs: ToyRuns) -> None:
    status, output, computed = toy_runs.run("asked-for", variables={"TOY_SKIP": "skipped: 12 new images, 50 needed"})
    assert status == 0, output
    assert computed == ALL
