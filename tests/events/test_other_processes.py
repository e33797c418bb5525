"""A training in processes of its own, told to a receiver: its stage is killed, or it follows the training of another run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from event_receiver import SECRET, Receiver, receiving
from event_schemas import check
from laptop import TOY, Laptop, wait_for
from published_training import Training, epochs


def told(server: Receiver) -> dict[str, str | None]:
    """The variables of a stage that tells a receiver and no tracker."""
    return {
        "VISIONLOOP_EVENTS_URL": server.url,
        "VISIONLOOP_EVENTS_SECRET": SECRET,
        "MLFLOW_TRACKING_URI": None,
    }


def train(laptop: Laptop, training: Training, run: str, *settings: str) -> list[str]:
    """The command of the stage train."""
    receipts = ["--converted", training.uris["convert"], "--snapshot", training.uris["snapshot"]]
    return laptop.stage_command("train", *receipts, "--run", run, "--trace-id", "trace", settings=(*TOY, *settings))


@pytest.mark.parametrize("moment", ["told", "durable"])
def test_a_stage_that_is_killed_and_the_attempt_after_it_tell_one_whole_story(
    moment: str, file_laptop: Laptop, training: Training, tmp_path: Path
) -> None:
    """``durable``: what the killed stage had not sent yet of its last durable epoch comes from the next attempt."""
    laptop, gate = file_laptop, tmp_path / "gate"
    command = train(laptop, training, "night", "hold_after=2", f"hold_until={gate}")
    with receiving() as server:
        first = laptop.start(*command, variables=told(server))
        if moment == "told":
            wait_for(lambda: epochs(2)[-1] in [posted.id for posted in server.taken], first)
        else:
            # What a receiver lacks of more than the last durable epoch is lost with the stage.
            wait_for(lambda: epochs(1)[-1] in [posted.id for posted in server.taken], first)
            wait_for(lambda: (recorded := laptop.progress()) and recorded.epoch >= 2, first)
        os.kill(first.process.pid, signal.SIGKILL)
        assert first.process.wait() == -signal.SIGKILL
        laptop.wait_until_quiet()
        gate.touch()
        ended = laptop.run(*command, variables=told(server)).expect()
        taken, story = list(server.taken), server.story
    for posted in taken:
        check(posted)
    lost, attempt = laptop.record("night").state("train").attempts
    started = [posted.id for posted in story if posted.kind == "started"]
    assert started == [f"night.train.started.{lost}.1", f"night.train.started.{attempt}.1"]
    ids = [posted.id for posted in story if posted.kind != "started"]
    assert ids == [*epochs(1, 2, 3, 4), "night.train.completed"]
    again = {
        posted.id for number, posted in enumerate(taken) if posted.id in {earlier.id for earlier in taken[:number]}
    }
    assert again <= set(epochs(2))
    assert moment == "durable" or again == set(epochs(2))
    assert (story[-1].data["reused"], story[-1].data["receipt"]) == (False, ended.summary["receipt"])
    # What stands in the story is what an undisturbed training tells.
    alone = Training(training.workspace.child("alone"), training.uris)
    with receiving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_EVENTS_URL", server.url)
        receipt = alone.receipt(alone.train())
        undisturbed = server.story
    assert laptop.receipt("train", receipt.key).digest == receipt.digest
    metrics, expected = (
        {posted.id: posted.data["metrics"] for posted in told_of if "metrics" in posted.data}
        for told_of in (story, undisturbed)
    )
    assert metrics == expected


def test_a_run_that_followed_the_training_of_another_run_tells_its_completion_alone(
    file_laptop: Laptop, training: Training, tmp_path: Path
) -> None:
    laptop, gate = file_laptop, tmp_path / "gate"
    with receiving() as server:
        first = laptop.start(
            *train(laptop, training, "other", f"hold_until={gate}"), variables={"MLFLOW_TRACKING_URI": None}
        )
        wait_for(lambda: (recorded := laptop.progress()) and recorded.epoch >= 1, first)
        second = laptop.start(*train(laptop, training, "night"), variables=told(server))
        wait_for(lambda: "run other computes the same key" in second.stderr, second)
        gate.touch()
        first.end().expect()
        ended = second.end().expect()
        (posted,) = server.taken
    check(posted)
    assert laptop.record("night").state("train").attempts == []
    assert (posted.id, posted.data["reused"]) == ("night.train.completed", True)
    assert posted.data["receipt"] == ended.summary["receipt"]
    assert laptop.record("night").state("train").events == {"sent": 1, "dropped": 0}
