"""What a training tells from its beginning to its end, whatever happens to it and whoever listens; and that nothing changes it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import jwt
import pytest
from event_receiver import HOSTILE, SECRET, Posted, receiving
from event_schemas import check
from published_training import Tell, Training, epochs

from visionloop.components.train.events import TrainingEvents
from visionloop.core.errors import InvalidConfig, Killed, Transient, UserStopped
from visionloop.core.progress import Checkpoint
from visionloop.core.runs import Failure, StageState
from visionloop.training.events import publisher
from visionloop.training.supervision import channel
from visionloop.training.supervision.child import JobFile
from visionloop.training.supervision.supervisor import supervise


def test_a_training_tells_its_whole_story(training: Training, send_to: Tell) -> None:
    with receiving() as server, receiving() as bare:
        send_to(server, CALLBACK_URL=bare.url, CALLBACK_TOKEN="as.it.is", CALLBACK_INTERVAL="3")
        outcome = training.train()
        story = server.story
    receipt = training.receipt(outcome)
    assert [posted.id for posted in story] == [story[0].id, *epochs(1, 2, 3, 4), "night.train.completed"]
    assert story[0].id == f"night.train.started.{receipt.attempt}.1"
    for posted in (*server.taken, *bare.taken):
        check(posted)
        assert (posted.data["job_id"], posted.data["trace_id"]) == ("night", "trace")
    started = story[0].data
    assert started["hostname"] == socket.gethostname()
    assert (started["total_epochs"], started["resumed_after_epoch"], started["operation_type"]) == (4, 0, "training")
    by_id = {posted.id: posted.data for posted in story}
    history = json.loads(training.workspace.read(f"train/{receipt.key}/{receipt.outputs['history'].path}"))["epochs"]
    for entry in history:
        number = entry["epoch"]
        train, val, checkpoint, progress = (by_id[identity] for identity in epochs(number))
        assert train["metrics"] == entry["train_metrics"]
        assert val["metrics"] == entry["val_metrics"]
        assert progress["metrics"] == {**entry["train_metrics"], **entry["val_metrics"]}
        assert (progress["epoch"], progress["current_epoch"], progress["total_epochs"]) == (number, number, 4)
        assert checkpoint["checkpoint_path"].endswith(f"/{receipt.attempt}/checkpoints/epoch_{number}.pt")
        assert checkpoint["file_size_bytes"] > 0
    steps = [by_id[identity]["step"] for identity in epochs(1, 2, 3, 4) if identity.endswith(".train")]
    assert steps == [3, 6, 9, 12]  # the objects of six images, in batches of eight; those of validation are no steps
    assert by_id[epochs(4)[-1]]["eta_seconds"] == 0
    best = [number for number in range(1, 5) if by_id[epochs(number)[2]]["is_best"]]
    completed = story[-1].data
    results = completed["training_results"]
    assert (completed["status"], completed["reused"]) == ("completed", False)
    assert results["best_epoch"] == best[-1] == receipt.scalars["best_epoch"]
    assert results["best_metrics"] == history[best[-1] - 1]["val_metrics"]
    assert results["final_metrics"] == history[-1]["val_metrics"]
    assert results["training_time_seconds"] == receipt.timings["seconds"]
    assert training.workspace.exists(completed["best_checkpoint_path"].removeprefix(f"{training.workspace.uri}/"))
    assert [posted.data["epoch"] for posted in bare.taken if posted.kind == "progress"] == [3, 4]
    claims = [
        jwt.decode(posted.headers["Authorization"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
        for posted in server.taken
    ]
    assert {(claim["sub"], claim["job_id"], claim["scope"]) for claim in claims} == {
        ("night", "night", "training-callback")
    }
    assert training.record().state("train").events == {"sent": len(server.taken) + len(bare.taken), "dropped": 0}


def test_the_lines_of_the_log_are_told_in_their_places(training: Training, send_to: Tell) -> None:
    with receiving() as server:
        send_to(server)
        training.train()
        ids = [posted.id for posted in server.taken]
        lines = [line for posted in server.taken if posted.kind == "log" for line in posted.data["logs"]]
    about = [line for line in lines if line["message"].startswith("epoch ")]
    assert [line["metadata"]["epoch"] for line in about] == [1, 2, 3, 4]
    assert {line["source"] for line in about} == {"sdk"}
    assert ids[0].startswith("night.train.started.")
    assert ids[-1] == "night.train.completed"
    (batch,) = [posted.id for posted in server.taken if posted.kind == "log" and about[1] in posted.data["logs"]]
    assert ids.index(epochs(1)[-1]) < ids.index(batch) < ids.index(epochs(2)[0])


@pytest.fixture(scope="module")
def untold() -> dict[str, Any]:
    """What a training comes to that tells nobody; filled by the first test that wants it."""
    return {}


@pytest.mark.parametrize("how", ["up", "down", *HOSTILE])
def test_the_result_is_the_same_to_the_byte_whatever_the_receiver_does(
    how: str,
    training: Training,
    send_to: Tell,
    untold: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "END_SECONDS", 0.2)
    if not untold:
        alone = Training(training.workspace.child("alone"), training.uris)
        untold["receipt"] = alone.receipt(alone.train())
        assert alone.record().state("train").events == {}
    with receiving(then="well" if how == "up" else how) as server:
        address = server.url
        if how != "down":
            send_to(server, CALLBACK_URL=server.url)
            receipt = training.receipt(training.train())
    if how == "down":
        monkeypatch.setenv("VISIONLOOP_EVENTS_URL", address)
        receipt = training.receipt(training.train())
    expected = untold["receipt"]
    assert (receipt.key, receipt.digest) == (expected.key, expected.digest)
    assert {name: output.sha256 for name, output in receipt.outputs.items()} == {
        name: output.sha256 for name, output in expected.outputs.items()
    }
    assert (receipt.scalars, receipt.metrics, receipt.parameters) == (
        expected.scalars, expected.metrics, expected.parameters,
    )  # fmt: skip
    counts = training.record().state("train").events
    assert (counts["sent"] > 0, counts["dropped"] > 0) == ((True, False) if how == "up" else (False, True))


def test_an_attempt_that_resumes_tells_on_under_the_same_ids(
    training: Training, send_to: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "2")
    with receiving() as server:
        send_to(server)
        outcome = training.train("fault=killed", "fault_after=2")
        ids = [posted.id for posted in server.taken if posted.kind != "log"]
        story = server.story
        for posted in server.taken:
            check(posted)
    first, second = training.record().state("train").attempts
    assert outcome.receipt is not None
    assert outcome.receipt.attempt == second
    assert [posted.id for posted in story] == [
        f"night.train.started.{first}.1",
        *epochs(1, 2),
        f"night.train.started.{second}.1",
        *epochs(3, 4),
        "night.train.completed",
    ]
    assert [identity for identity in ids if ids.count(identity) == 2] == epochs(2) * 2
    assert story[-1].data["reused"] is False
    by_id: dict[str, list[dict[str, Any]]] = {}
    for posted in server.taken:
        by_id.setdefault(posted.id, []).append(posted.data)
    for identity in epochs(2):
        told_first, again = by_id[identity]
        times = {"eta_seconds": None, "step": None}  # of the attempt that measured
        assert told_first | times == again | times


def test_an_epoch_that_was_durable_but_not_told_is_told_by_the_next_attempt(
    training: Training, send_to: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "2")
    tell, lost = TrainingEvents.epoch, [2]

    def killed(self: TrainingEvents, epoch: channel.Epoch, *more: Any) -> None:
        if epoch.epoch in lost:
            lost.remove(epoch.epoch)
            raise Killed("between the checkpoint and its event")
        tell(self, epoch, *more)

    monkeypatch.setattr(TrainingEvents, "epoch", killed)
    with receiving() as server:
        send_to(server)
        training.train()
        told_of = [posted.id for posted in server.story if posted.kind not in ("started", "completed")]
    assert told_of == epochs(1, 2, 3, 4)


@pytest.mark.slow
def test_checkpoints_within_an_epoch_are_told_under_ids_of_their_own(
    training: Training, send_to: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "2")
    tell, lost = TrainingEvents.step, [(1, 1)]

    def killed(self: TrainingEvents, checkpoint: Checkpoint, uri: str) -> None:
        if checkpoint.at in lost:
            lost.remove(checkpoint.at)
            raise Killed("between the checkpoint and its event")
        tell(self, checkpoint, uri)

    monkeypatch.setattr(TrainingEvents, "step", killed)
    with receiving() as server, receiving() as bare:
        send_to(server, CALLBACK_URL=bare.url, CALLBACK_INTERVAL="2")
        outcome = training.train(
            "trainer=torchvision", "model=fcos_tiny.yaml", "epochs=2", "imgsz=64", "batch=2", "lr0=0.001", "workers=0",
            "device=cpu", "checkpoint_minutes=1e-9",
        )  # fmt: skip
        story = server.story
    first, second = training.record().state("train").attempts
    assert outcome.receipt is not None
    assert [posted.id for posted in story] == [
        f"night.train.started.{first}.1",
        "night.train.checkpoint.1.1",
        "night.train.checkpoint.1.2",
        *epochs(1),
        f"night.train.started.{second}.1",
        "night.train.checkpoint.2.1",
        "night.train.checkpoint.2.2",
        *epochs(2),
        "night.train.completed",
    ]
    for posted in (*server.taken, *bare.taken):
        check(posted)
    within = next(posted.data for posted in story if posted.id == "night.train.checkpoint.2.1")
    assert within["checkpoint_path"].endswith(f"/train/{outcome.receipt.key}/{first}/checkpoints/epoch_2_step_1.pt")
    assert within["file_size_bytes"] > 0
    assert (within["epoch"], within["step"], within["metrics"]) == (2, 1, {})
    assert (within["is_best"], within["checkpoint_type"]) == (False, "last")
    assert {posted.data["step"] for posted in story if posted.id in epochs(1, 2) and posted.kind == "checkpoint"} == {0}
    told = [(posted.data["epoch"], posted.data["step"]) for posted in bare.taken if posted.kind == "checkpoint"]
    assert told == [(2, 1), (2, 2), (2, 0)]


def test_a_training_that_is_there_already_is_told_by_its_completion_alone(training: Training, send_to: Tell) -> None:
    first = training.train(run="other")
    with receiving() as server:
        send_to(server)
        outcome = training.train()
        (posted,) = server.taken
    assert outcome.reused
    check(posted)
    assert posted.id == "night.train.completed"
    assert posted.data["reused"] is True
    assert first.result is not None
    assert posted.data["receipt"] == first.result.uri
    with receiving() as server:  # a pod that was lost between its receipt and its event
        send_to(server)
        training.train(run="other")
        (posted,) = server.taken
    assert (posted.id, posted.data["reused"]) == ("other.train.completed", False)


def test_a_second_training_of_a_run_says_that_it_repeats_the_ids_of_the_first(
    training: Training, send_to: Tell
) -> None:
    with receiving() as server:
        send_to(server)
        training.train()
        first = server.story
        assert not [line for line in warnings_in(server.taken) if "same ids" in line]
        training.cleanup()  # as a run ends: the second training begins anew
        training.train(force=True)
        story, warnings = server.story, warnings_in(server.taken)
    # Of a forced training of the same run a receiver that drops repeats sees its beginning alone,
    (began,) = story[len(first) :]
    assert (began.kind, began.data["resumed_after_epoch"]) == ("started", 0)
    # and the log's own words.
    (warning,) = [line for line in warnings if "same ids" in line]
    assert warning.startswith("events: the run night has told of a complete training before")
    assert [posted.id for posted in server.taken].count("night.train.completed") == 2


def warnings_in(taken: list[Posted]) -> list[str]:
    """The warnings among the lines of the log that were told."""
    lines = [line for posted in taken if posted.kind == "log" for line in posted.data["logs"]]
    return [line["message"] for line in lines if line["level"] == "WARNING"]


def test_a_failure_that_no_engine_retries_is_told_by_train_and_again_by_cleanup_under_the_same_id(
    training: Training, send_to: Tell
) -> None:
    with receiving() as server:
        send_to(server)
        with pytest.raises(InvalidConfig):
            training.train("fault=diverged", "fault_after=2")
        failed = server.taken[-1]
        training.cleanup()
        again = server.taken[-1]
    check(failed)
    assert failed.id == again.id == "night.train.failed"
    assert failed.data == again.data
    assert failed.data == {
        "job_id": "night",
        "trace_id": "trace",
        "status": "failed",
        "stage": "train",
        "error_code": "INVALID_CONFIG",
        "error_message": "Training diverged; lower lr0.",
        "error_type": "CONFIG_ERROR",
        "exit_code": 78,
        "last_successful_epoch": 2,
        "traceback": None,
    }


def test_a_failure_that_an_engine_retries_is_told_by_cleanup_alone(training: Training, send_to: Tell) -> None:
    with receiving() as server:
        send_to(server)
        with pytest.raises(Killed):
            training.train("fault=killed", "fault_after=1")
        assert [posted.kind for posted in server.story] == ["started", "metrics", "metrics", "checkpoint", "progress"]
        training.cleanup()
        last = server.taken[-1]
    check(last)
    assert (last.kind, last.data["exit_code"], last.data["last_successful_epoch"]) == ("failed", 137, 1)


def test_a_training_that_a_person_stopped_names_what_was_kept(
    training: Training, send_to: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = TrainingEvents.epoch

    def stopped(self: TrainingEvents, epoch: channel.Epoch, *more: Any) -> None:
        tell(self, epoch, *more)
        if epoch.epoch == 2:
            raise UserStopped("train was stopped by the user; run it again to resume.")

    monkeypatch.setattr(TrainingEvents, "epoch", stopped)
    with receiving() as server:
        send_to(server)
        with pytest.raises(UserStopped):
            training.train()
        last = server.taken[-1]
    check(last)
    assert (last.id, last.data["status"], last.data["stopped_at_epoch"]) == ("night.train.stopped", "stopped", 2)
    path = last.data["best_checkpoint_path"].removeprefix(f"{training.workspace.uri}/")
    assert training.workspace.exists(path)


def test_a_run_that_failed_before_its_training_is_told_by_cleanup(training: Training, send_to: Tell) -> None:
    record = training.record()
    record.open({}, "trace")
    record.write_state(StageState(stage="snapshot", state="failed"))
    failure = Failure(
        stage="snapshot",
        exit_code=65,
        error_code="DATASET_NOT_FOUND",
        error_message="s3://nowhere: nothing lies there.",
        error_type="DATASET_ERROR",
        last_successful_epoch=None,
        attempt=1,
        trace_id="trace",
        written_at=1.0,
    )
    record.write_failure(failure)
    with receiving() as server:
        send_to(server)
        training.cleanup()
        (posted,) = server.taken
    check(posted)
    assert posted.id == "night.train.failed"
    assert (posted.data["stage"], posted.data["error_code"]) == ("snapshot", "DATASET_NOT_FOUND")


def test_a_pod_that_was_lost_without_a_word_is_told_by_cleanup(training: Training, send_to: Tell) -> None:
    record = training.record()
    record.open({}, "trace")
    record.write_state(StageState(stage="train", state="running", attempt=1))
    with receiving() as server:
        send_to(server)
        training.cleanup(engine_status="Failed", engine_failure="train: pod deleted")
        (posted,) = server.taken
    check(posted)
    assert (posted.data["stage"], posted.data["exit_code"], posted.data["error_code"]) == (None, None, "KILLED")
    assert "train: pod deleted" in posted.data["error_message"]


def test_a_run_that_needed_no_training_pod_is_told_by_cleanup(training: Training, send_to: Tell) -> None:
    outcome = training.train(run="other")
    assert outcome.result is not None
    record = training.record()
    record.open({}, "trace")
    record.write_state(
        StageState(
            stage="train", state="succeeded", reused=True, receipt=outcome.result.uri
        )  # as convert's look ahead does
    )
    with receiving() as server:
        send_to(server)
        training.cleanup()
        (posted,) = server.taken
        training.cleanup(run="other")
        assert len(server.taken) == 1  # its own pod has told it
    check(posted)
    assert (posted.id, posted.data["reused"]) == ("night.train.completed", True)


def test_a_run_that_was_not_worth_a_training_has_nothing_to_tell(training: Training, send_to: Tell) -> None:
    record = training.record()
    record.open({}, "trace")
    record.write_state(StageState(stage="snapshot", state="succeeded", scalars={"go": "false"}))
    with receiving() as server:
        send_to(server)
        training.cleanup(engine_status="Succeeded")
        assert server.taken == []


def test_cleanup_ends_well_though_the_address_is_none(
    training: Training, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    training.record().open({}, "trace")
    monkeypatch.setenv("CALLBACK_URL", "nowhere-to-be-seen")
    training.cleanup()
    text = capfd.readouterr().err
    assert "the training's end could not be told: CALLBACK_URL is not the address of a receiver" in text
    assert "nowhere-to-be-seen" not in text


def test_variables_that_can_not_be_used_end_the_training_before_it_begins(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_EVENTS_SECRET", "short")
    with pytest.raises(InvalidConfig, match="VISIONLOOP_EVENTS_SECRET has 5 characters"):
        training.train()
    assert training.workspace.children("train") == ([], [])


def test_whatever_telling_meets_the_trainings_own_end_counts(
    training: Training, send_to: Tell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise Transient("the store does not answer.")

    monkeypatch.setattr("visionloop.components.train.events.endings.completed", fails)
    with receiving() as server:
        send_to(server)
        assert training.train().receipt is not None
    assert "the training's end could not be told: Transient: the store does not answer." in capfd.readouterr().err
    assert training.record().state("train").state == "succeeded"


#: A child that logs, and ends well.
CHILD = """if True:
    import logging, socket, sys
    from visionloop.core.logs import LOGGER, configure
    from visionloop.training.supervision import channel
    from visionloop.training.supervision.child import _Lines
    end = channel.Channel(socket.socket(fileno=int(sys.argv[2])))
    configure(trace_id="trace", run="night", stage="train")
    LOGGER.addHandler(_Lines(end))
    LOGGER.warning("the trainer says %d", 7)
    end.send(channel.Done(best="", last="", best_epoch=1, epochs=1, history=[], plots=[], batch=1, versions={}, devices=[]))
"""


def test_the_trainers_own_lines_reach_the_stage(tmp_path: Path) -> None:
    job = JobFile(
        trainer="toy",
        task="detection",
        dataset="",
        classes=[],
        config={},
        weights=None,
        work="",
        checkpoint=None,
        batch=1,
    )
    lines: list[channel.Line] = []
    supervise(
        job,
        tmp_path,
        os.environ,
        on_batch=lambda _: None,
        on_epoch=lambda _: True,
        on_images=lambda _: None,
        on_line=lines.append,
        program=CHILD,
    )
    assert [(line.level, line.message) for line in lines] == [("WARNING", "the trainer says 7")]
