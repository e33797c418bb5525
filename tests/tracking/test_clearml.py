"""ClearML's tracker, by its own SDK: against a server on this machine, and without one."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from clearml_server import KEYS, clearml_server
from published_training import Training
from tracked_training import Started

from visionloop.components.train import tracked
from visionloop.core import packages
from visionloop.core.errors import InvalidConfig
from visionloop.training.tracking import attach, chosen, end_left_open, record
from visionloop.training.tracking.clearml import TRACKER, process
from visionloop.training.tracking.tracker import TrainingDescription

CLEARML = {"OBSERVABILITY_BACKENDS": "clearml"}
PARAMS: dict[str, Any] = {"epochs": 3, "lr0": 0.01, "cos_lr": False, "model": "yolo11n"}


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """Variables without a server."""
    own = {"CLEARML_OFFLINE_MODE": "true", "CLEARML_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    return {**CLEARML, **own}


def read(url: str) -> tuple[dict[str, Any], dict[str, dict[int, float]], list[str]]:
    """The task of a session's file, its values by name and epoch, and all names in the file."""
    with ZipFile(url.removeprefix("file://")) as session:
        task = json.loads(session.read("task.json"))
        lines = session.read("metrics.jsonl").decode().splitlines()
        names = session.namelist()
    values: dict[str, dict[int, float]] = {}
    for event in (event for line in lines for event in json.loads(line)):
        values.setdefault(f"{event['metric']}/{event['variant']}", {})[event["iter"]] = event["value"]
    return task, values, names


@pytest.mark.slow
def test_without_a_server_the_whole_story_is_in_a_file(
    offline: dict[str, str], lines: pytest.LogCaptureFixture
) -> None:
    tags = {"visionloop.trace_id": "trace"}
    tracker = Started(offline, experiment="bolts", params=PARAMS, tags=tags, description="by night")
    tracker.log_epoch(1, {"train/box_loss": 1.5, "val/mAP50": 0.25, "val/odd": math.nan})
    tracker.attach({"plots/loss.txt": b"plot"})
    tracker.finish("succeeded", {1: {"val/mAP50": 9.0}, 2: {"val/mAP50": 0.5}})
    entry = tracker.record["clearml"]
    assert entry["run_id"].startswith("offline-")
    task, values, names = read(entry["url"])
    assert (task["name"], task["project_name"], task["comment"], task["type"]) == (
        "run 1",
        "bolts",
        "by night",
        "training",
    )
    assert values == {"box_loss/train": {1: 1.5}, "mAP50/val": {1: 0.25, 2: 0.5}}
    settings = {name: entry["value"] for name, entry in task["hyperparams"]["General"].items()}
    assert settings == {"epochs": "3", "lr0": "0.01", "cos_lr": "False", "model": "yolo11n"}
    properties = {name: entry["value"] for name, entry in task["hyperparams"]["properties"].items()}
    assert (properties["visionloop.trace_id"], properties["visionloop.status"]) == ("trace", "succeeded")
    assert any(name.endswith("plots_loss.txt") for name in names)
    # Nothing else is captured: no code, no package, no variable, no command line.
    assert "script" not in task
    assert "Environment" not in json.dumps(task)
    attach(offline, tracker.record, {"test/mAP50": 0.5}, {})
    assert "test/mAP50 (a session that is kept in a file takes nothing more)" in lines.text
    TRACKER.end(offline, entry, "failed")
    # A later attempt has a file of its own.
    second = Started(offline, tracker.record, resumed_after=2)
    second.finish("failed", {epoch: {"val/mAP50": 0.5} for epoch in (1, 2, 3)})
    assert second.record["clearml"]["url"] != entry["url"]
    assert read(second.record["clearml"]["url"])[1] == {"mAP50/val": {1: 0.5, 2: 0.5, 3: 0.5}}


@pytest.mark.slow
def test_a_server_is_told_the_whole_story_over_several_attempts(training: Training) -> None:
    with clearml_server() as server:
        first = Started(server.variables, experiment="bolts", params=PARAMS, description="by night")
        (number,) = server.tasks
        page = f"{server.variables['CLEARML_WEB_HOST']}/projects/p1/experiments/{number}/output/log"
        assert first.record == {"clearml": {"run_id": number, "url": page}}
        first.log_epoch(1, {"train/box_loss": 1.5, "val/mAP50": 0.25})
        first.finish("failed", {2: {"val/mAP50": 0.5}})
        assert server.tasks[number]["status"] == "failed"
        second = Started(server.variables, first.record, resumed_after=2)
        second.attach({"plots/loss.txt": b"plot"})
        second.finish("cancelled", {3: {"val/mAP50": 0.75}})
        assert second.record == first.record
        assert server.tasks[number]["status"] == "stopped"
        assert server.scalars(number) == {"box_loss/train": {1: 1.5}, "mAP50/val": {1: 0.25, 2: 0.5, 3: 0.75}}
        attach(server.variables, first.record, {"test/mAP50": 0.625}, {"model_card.md": b"card"})
        (single,) = server.scalars(number)["Summary/test/mAP50"].values()
        artifacts = [
            entry["key"] for said in server.said("tasks.add_or_update_artifacts") for entry in said["artifacts"]
        ]
        assert (single, {*artifacts}) == (0.625, {"plots/loss.txt", "model_card.md"})
        assert [b"plot" in body for body in server.uploads] == [True, False]
        # What a lost pod left open is ended; a task that was stopped stays so.
        prefix = training.workspace.child("train/key")
        for status, expected in (("stopped", "stopped"), ("in_progress", "failed")):
            server.tasks[number]["status"] = status
            record.write(prefix, first.record)
            assert end_left_open(server.variables, prefix, "failed")
            assert server.tasks[number]["status"] == expected
        # Nothing else is captured.
        told = json.dumps([data for _, data in server.calls])
    assert '"script"' not in told
    assert str(Path(__file__).parents[2]) not in told
    assert "a-key-that-nobody-may-see" not in told


@pytest.mark.slow
def test_what_an_sdk_that_died_knew_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with clearml_server() as server:
        training = TrainingDescription("night", "s3://results", "bolts", "night")
        run = TRACKER.open(server.variables, training)
        begun: list[subprocess.Popen[bytes]] = []
        begin = process.SdkProcess._begin

        def noted(self: process.SdkProcess) -> subprocess.Popen[bytes]:
            begun.append(begin(self))
            return begun[-1]

        monkeypatch.setattr(process.SdkProcess, "_begin", noted)
        run.start()
        run.log_epochs({1: {"val/mAP50": 0.25}})
        begun[0].kill()
        begun[0].wait()
        run.log_epochs({2: {"val/mAP50": 0.5}})
        run.finish("succeeded")
        (number,) = server.tasks
        assert server.scalars(number) == {"mAP50/val": {1: 0.25, 2: 0.5}}
        assert server.tasks[number]["status"] == "completed"
    assert [one.poll() is not None for one in begun] == [True, True]


def test_the_sdk_ends_with_whoever_asks_it_and_is_given_no_key_of_a_store(
    offline: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []
    popen: Any = subprocess.Popen

    def noted(*arguments: Any, env: dict[str, str], **more: Any) -> Any:
        given.append(env)
        return popen(*arguments, env=env, **more)

    monkeypatch.setattr(subprocess, "Popen", noted)
    foreign = {"AWS_SECRET_ACCESS_KEY": "canary", "MLFLOW_TRACKING_PASSWORD": "canary", "CLEARML_LOG_ENVIRONMENT": "*"}
    sdk = process.SdkProcess({**os.environ, **offline, **foreign})
    child = sdk._begin()
    assert child.stdin is not None
    child.stdin.close()  # as the kernel does when a stage is killed
    assert child.wait(60) == 0
    sdk.close()
    assert not set(foreign) & set(given[0])
    assert given[0]["CLEARML_CONFIG_FILE"] == os.devnull
    assert given[0]["CLEARML_OFFLINE_MODE"] == "1"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "CLEARML_API_HOST, CLEARML_API_ACCESS_KEY, CLEARML_API_SECRET_KEY"),
        ({**KEYS, "CLEARML_OFFLINE_MODE": "false"}, "CLEARML_API_HOST"),
        ({"CLEARML_API_HOST": "https://clearml.example", "CLEARML_API_ACCESS_KEY": "x"}, "CLEARML_API_SECRET_KEY"),
        ({"CLEARML_AUTH_TOKEN": "token"}, "CLEARML_API_HOST"),
    ],
)
def test_variables_that_are_missing_are_named(given: dict[str, str], missing: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        chosen({**CLEARML, **given})
    assert caught.value.sentence.startswith(f"OBSERVABILITY_BACKENDS: the tracker clearml needs {missing}: set them, ")
    assert KEYS["CLEARML_API_SECRET_KEY"] not in caught.value.sentence


@pytest.mark.parametrize(
    "given",
    [
        {"CLEARML_OFFLINE_MODE": "1"},
        {"CLEARML_API_HOST": "https://clearml.example", **KEYS},
        {"CLEARML_API_HOST": "https://clearml.example", "CLEARML_AUTH_TOKEN": "token"},
    ],
)
def test_a_server_with_its_keys_or_none_at_all_is_enough(given: dict[str, str]) -> None:
    assert list(chosen({**CLEARML, **given})) == ["clearml"]


def test_without_the_package_the_command_that_installs_it_is_told(
    offline: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "is_installed", lambda distribution: distribution != "clearml")
    with pytest.raises(InvalidConfig) as caught:
        chosen(offline)
    assert caught.value.sentence == (
        "OBSERVABILITY_BACKENDS: the tracker clearml needs the package clearml, which is not installed here; "
        "install it with pip install 'visionloop[clearml]', or leave clearml out."
    )


@pytest.fixture(scope="module")
def untracked() -> dict[str, Any]:
    """What a training comes to that nobody tracks; filled by the first test that wants it."""
    return {}


@pytest.mark.parametrize(
    "how", [pytest.param("well", marks=pytest.mark.slow), pytest.param("refuses", marks=pytest.mark.slow), "hangs"]
)
def test_the_result_is_the_same_to_the_byte_whatever_the_server_does(
    how: str,
    training: Training,
    untracked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracked, "END_SECONDS", 0.5 if how == "hangs" else 60.0)
    monkeypatch.setattr(process, "ANSWER_SECONDS", 3.0 if how == "hangs" else 60.0)
    if not untracked:
        alone = Training(training.workspace.child("alone"), training.uris)
        with monkeypatch.context() as patched:
            patched.setenv("OBSERVABILITY_BACKENDS", "")
            untracked["receipt"] = alone.receipt(alone.train())
    with clearml_server(how) as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        receipt = training.receipt(training.train())
        calls = dict(server.calls)
        for thread in [thread for thread in threading.enumerate() if thread.name == "tracking by clearml"]:
            thread.join(20 if how == "hangs" else 0)
    expected = untracked["receipt"]
    assert (receipt.key, receipt.digest) == (expected.key, expected.digest)
    assert {name: entry.sha256 for name, entry in receipt.outputs.items()} == {
        name: entry.sha256 for name, entry in expected.outputs.items()
    }
    assert (receipt.scalars, receipt.metrics) == (expected.scalars, expected.metrics)
    assert isinstance(receipt.tracking, dict)
    mine, text = receipt.tracking["clearml"], capfd.readouterr().err
    match how:
        case "well":
            assert "problem" not in mine
            assert "tasks.completed" in calls
        case "refuses":
            assert "Unauthorized (invalid credentials)" in mine["problem"]
            assert text.count("tracking failed: clearml: ") == 1
        case "hangs":
            assert mine == {"run_id": None, "url": None, "problem": "it does not answer"}
    assert KEYS["CLEARML_API_SECRET_KEY"] not in text


def test_an_sdk_without_an_answer_is_given_up(offline: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.05)
    tracker = Started(offline)
    assert tracker.record == {"clearml": {"run_id": None, "url": None, "problem": "it does not answer"}}
