"""What several trackers are told of one training, whatever one of them does; and that nothing changes the training."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from published_training import Training

from visionloop.components.train import tracked
from visionloop.components.train.events import TrainingEvents
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, Killed, Terminated, UserStopped
from visionloop.core.stop import Stop, ask
from visionloop.training.supervision import channel
from visionloop.training.tracking import attach, chosen, end_left_open, record
from visionloop.training.tracking.connection import connect

FAULTS = ("raises", "exits", "hangs", "half", "odd")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The third party's tracker is named, beside TensorBoard."""
    monkeypatch.setenv("OBSERVABILITY_BACKENDS", "journal,tensorboard")
    monkeypatch.setenv("EXAMPLE_JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setattr(tracked, "END_SECONDS", 20.0)
    return tmp_path / "journal"


def told(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_each_tracker_is_told_the_whole_story(training: Training, journal: Path) -> None:
    receipt = training.receipt(training.train())
    lines = told(journal)
    assert [line.get("epoch") for line in lines if "epoch" in line] == [1, 2, 3, 4]
    assert (lines[0]["start"], lines[0]["earlier"]) == ("night", None)
    assert lines[0]["params"]["epochs"] == 4
    assert lines[0]["params"]["trainer"] == "toy"
    history = json.loads(training.workspace.read(f"train/{receipt.key}/{receipt.outputs['history'].path}"))["epochs"]
    for line, entry in zip([line for line in lines if "epoch" in line], history, strict=True):
        for name, value in entry["train_metrics"].items():
            assert line["metrics"][f"train/{name}"] == value
    assert lines[-2:] == [{"files": ["plots/loss.txt", "reports/validate.html"]}, {"finish": "succeeded"}]
    folder = f"{training.workspace.uri}/runs/night/tensorboard"
    assert receipt.tracking == {
        "journal": {"run_id": "journal-night", "url": None},
        "tensorboard": {"run_id": "night", "url": folder},
    }
    (file,) = training.workspace.objects("runs/night/tensorboard")
    assert file.size > 1000


def test_a_run_that_was_killed_is_ended_and_gone_on_with(training: Training, journal: Path) -> None:
    with pytest.raises(Killed):
        training.train("fault=killed")
    assert told(journal)[-1] == {"finish": "failed"}
    (key,) = training.workspace.children("train")[0]
    prefix = training.workspace.child(f"train/{key}")
    assert {name: entry["ended"] for name, entry in record.read(prefix).items()} == {
        "journal": "failed",
        "tensorboard": "failed",
    }
    training.train("fault=killed")
    again = [line for line in told(journal) if "start" in line][1]
    assert again["earlier"] == "journal-night"
    assert sorted({line["epoch"] for line in told(journal) if "epoch" in line}) == [1, 2, 3, 4]


def test_what_a_lost_pod_left_open_is_ended_by_cleanup(training: Training, journal: Path) -> None:
    training.train()
    (key,) = training.workspace.children("train")[0]
    prefix = training.workspace.child(f"train/{key}")
    left = {name: {k: v for k, v in entry.items() if k != "ended"} for name, entry in record.read(prefix).items()}
    record.write(prefix, {**left, "gone": {"run_id": "1", "url": None}})
    training.cleanup()
    assert told(journal)[-1] == {"end": "journal-night", "status": "succeeded"}
    assert record.read(prefix)["journal"]["ended"] == "succeeded"
    assert "ended" not in record.read(prefix)["gone"]
    before = journal.read_text()
    assert not end_left_open({"EXAMPLE_JOURNAL": str(journal)}, prefix, "succeeded")
    assert journal.read_text() == before


@pytest.mark.parametrize(("asked", "status"), [(Stop(cancelled=True), "KILLED"), (None, "FAILED")])
def test_a_training_that_a_person_cancelled_on_its_engine_is_killed_in_mlflow(
    asked: Stop | None, status: str, training: Training, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine says it by a signal alone."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def end(self: TrainingEvents, epoch: channel.Epoch, *_: Any) -> None:
        if asked:
            ask(training.record(), asked)
        raise Terminated("train was ended by SIGTERM.")

    with monkeypatch.context() as patched:
        patched.setattr(TrainingEvents, "epoch", end)
        with pytest.raises(UserStopped if asked else Terminated):
            training.train()
    (key,) = training.workspace.children("train")[0]
    prefix = training.workspace.child(f"train/{key}")
    entry = record.read(prefix)["mlflow"]
    client = connect(environment)
    assert entry["ended"] == ("cancelled" if asked else "failed")
    assert client.get_run(entry["run_id"]).info.status == status
    # A pod that was lost without a word.
    client.update_run(entry["run_id"], status="RUNNING")
    record.write(prefix, {"mlflow": {name: value for name, value in entry.items() if name != "ended"}})
    state = training.record().state("train")
    state.state = "running"
    training.record().write_state(state)
    training.cleanup()
    assert client.get_run(entry["run_id"]).info.status == status


def test_a_later_stage_adds_to_each_tracker_what_it_found(training: Training, journal: Path) -> None:
    receipt = training.receipt(training.train())
    attach({"EXAMPLE_JOURNAL": str(journal)}, receipt.tracking, {"test/mAP50": 0.5}, {"model_card.md": b"card"})
    assert told(journal)[-1] == {"add": "journal-night", "metrics": {"test/mAP50": 0.5}, "files": ["model_card.md"]}
    names = [info.key for info in training.workspace.objects("runs/night/tensorboard")]
    assert len(names) == 2


@pytest.mark.parametrize("fault", ["raises", "exits", "hangs"])
def test_a_later_stage_waits_for_no_tracker_for_long(
    fault: str, journal: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture, training: Training
) -> None:
    from example import tracker

    def go_wrong(*_: Any) -> None:
        if fault == "raises":
            raise ValueError("no journal today")
        if fault == "exits":
            raise SystemExit(3)
        threading.Event().wait()

    monkeypatch.setattr(record, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(tracker.JournalTracker, "add", go_wrong)
    monkeypatch.setattr(tracker.JournalTracker, "end", go_wrong)
    run = {"journal": {"run_id": "journal-night", "url": None}}
    attach({"EXAMPLE_JOURNAL": str(journal)}, run, {"test/mAP50": 0.5}, {})
    prefix = training.workspace.child("train/key")
    record.write(prefix, run)
    assert not end_left_open({"EXAMPLE_JOURNAL": str(journal)}, prefix, "failed")
    why = {"raises": "no journal today", "exits": "it raised SystemExit", "hangs": "it does not answer"}[fault]
    assert f"left out of journal's run journal-night: test/mAP50 ({why})" in lines.text
    assert f"could not be ended: {why}" in lines.text
    assert record.read(prefix) == run


@pytest.fixture(scope="module")
def untracked() -> dict[str, Any]:
    """What a training comes to that nobody tracks; filled by the first test that wants it."""
    return {}


@pytest.mark.parametrize("how", ["up", "mlflow down", *FAULTS])
def test_the_result_is_the_same_to_the_byte_whatever_a_tracker_does(
    how: str,
    training: Training,
    untracked: dict[str, Any],
    journal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracked, "END_SECONDS", 1.0 if how == "hangs" else 20.0)
    if not untracked:
        alone = Training(training.workspace.child("alone"), training.uris)
        with monkeypatch.context() as patched:
            patched.setenv("OBSERVABILITY_BACKENDS", "")
            untracked["receipt"] = alone.receipt(alone.train())
    if how in FAULTS:
        monkeypatch.setenv("EXAMPLE_JOURNAL_FAULT", how)
    if how == "mlflow down":
        monkeypatch.setenv("OBSERVABILITY_BACKENDS", "mlflow,tensorboard")
        (journal.parent / "file").touch()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{journal.parent}/file/mlflow.db")
    receipt = training.receipt(training.train())
    alone = untracked["receipt"]
    assert (receipt.key, receipt.digest) == (alone.key, alone.digest)
    assert {name: entry.sha256 for name, entry in receipt.outputs.items()} == {
        name: entry.sha256 for name, entry in alone.outputs.items()
    }
    assert (receipt.scalars, receipt.metrics, alone.tracking) == (alone.scalars, alone.metrics, receipts.NOT_TRACKED)
    assert isinstance(receipt.tracking, dict)
    # The other tracker has it all.
    assert receipt.tracking["tensorboard"] == {
        "run_id": "night",
        "url": f"{training.workspace.uri}/runs/night/tensorboard",
    }
    mine = receipt.tracking["mlflow" if how == "mlflow down" else "journal"]
    failures = capfd.readouterr().err.count("tracking failed: ")
    match how:
        case "up" | "half":
            assert sorted({line["epoch"] for line in told(journal) if "epoch" in line}) == [1, 2, 3, 4]
            assert mine == {"run_id": "journal-night", "url": None}
            assert failures <= (how == "half")
        case "hangs":
            assert mine == {"run_id": None, "url": None, "problem": "it does not answer"}
        case "odd":
            assert mine["run_id"].startswith("<object object")
        case _:
            assert (mine["run_id"], mine["url"], failures) == (None, None, 1)
            assert mine["problem"]


def test_a_tracker_that_nobody_has_is_refused_before_anything_starts(
    training: Training, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSERVABILITY_BACKENDS", "tensorboard, wandb")
    with pytest.raises(InvalidConfig) as caught:
        training.train()
    assert "OBSERVABILITY_BACKENDS: There is no tracker 'wandb'; there are " in caught.value.sentence
    assert {"journal", "mlflow", "tensorboard"} <= set(caught.value.sentence.rstrip(".").replace(",", "").split())
    assert training.workspace.children("train")[0] == []
    assert not journal.exists()


def test_variables_that_a_tracker_can_not_use_are_refused(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSERVABILITY_BACKENDS", "journal")
    with pytest.raises(InvalidConfig, match="EXAMPLE_JOURNAL is not set"):
        training.train()


def test_a_tracker_that_lacks_something_is_refused_with_what(
    monkeypatch: pytest.MonkeyPatch, training: Training
) -> None:
    from example.tracker import JournalTracker

    environment = {"OBSERVABILITY_BACKENDS": "Journal", "EXAMPLE_JOURNAL": "file"}
    assert list(chosen(environment)) == ["journal"]
    with monkeypatch.context() as patched:
        patched.delattr(JournalTracker, "add")
        with pytest.raises(InvalidConfig, match="the tracker journal has no add"):
            chosen(environment)
    monkeypatch.setattr(JournalTracker, "check", lambda *_: dict[str, str]()["missing"])
    with pytest.raises(InvalidConfig, match=r"the tracker journal can't be used \(KeyError: 'missing'\)"):
        chosen(environment)


def test_a_record_of_before_has_its_end_beside_the_runs(training: Training, journal: Path) -> None:
    run = {"journal": {"run_id": "journal-old", "url": None}}
    prefix = training.workspace.child("train/key")
    record.write(prefix, {**run, "ended": "failed"})  # type: ignore[dict-item]
    assert not end_left_open({"EXAMPLE_JOURNAL": str(journal)}, prefix, "succeeded")
    record.write(prefix, {**run, "ended": "succeeded"})  # type: ignore[dict-item]
    assert end_left_open({"EXAMPLE_JOURNAL": str(journal)}, prefix, "failed")
    assert told(journal) == [{"end": "journal-old", "status": "failed"}]
