"""Killed at any moment, or run twice at once: the next run goes on, and ends as one that nobody disturbed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from laptop import TINY, TOY, Command, Dataset, Laptop, Trained, wait_for

SAME = ("snapshot", "validate", "convert", "train")
STAGES = (*SAME, "evaluate", "register")

#: Importing mlflow is most of what a small command takes.
UNTRACKED: dict[str, str | None] = {"MLFLOW_TRACKING_URI": None}


def kill_when(command: Command, moment: Callable[[], object]) -> None:
    """Kills all of a command once something is so; there must be something to kill then."""
    wait_for(moment, command)
    assert command.process.poll() is None, command.end()
    command.kill()


@pytest.mark.matrix
def test_a_training_killed_three_times_ends_as_one_that_was_not(trained: Trained, laptop: Laptop):
    """Before the first checkpoint, after an epoch, and between the last epoch and the receipt."""
    uris = laptop.prepare(trained.dataset.uri)
    train = ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]
    command = laptop.stage_command("train", *train, settings=TINY)

    first = laptop.start(*command, variables=UNTRACKED)
    first.descendant("visionloop.training.supervision.child")
    kill_when(first, lambda: True)
    assert laptop.progress() is None

    kill_when(
        laptop.start(*command, variables=UNTRACKED), lambda: (recorded := laptop.progress()) and recorded.epoch >= 1
    )
    kill_when(laptop.start(*command), lambda: (recorded := laptop.progress()) and recorded.finished)
    assert laptop.keys("train") == []

    ended = laptop.run(*command).expect()
    assert any("resuming after epoch 2 of 2" in line["message"] for line in ended.log)
    receipt = laptop.receipt("train", ended.summary["key"])
    uninterrupted = trained.laptop.receipt("train", trained.key("train"))
    assert {**{stage: uri.split("/")[-2] for stage, uri in uris.items()}, "train": receipt.key} == {
        stage: trained.key(stage) for stage in SAME
    }
    assert receipt.digest == uninterrupted.digest
    assert receipt.metrics == uninterrupted.metrics


@pytest.mark.matrix
def test_runs_killed_in_several_stages_end_with_the_same_keys_and_one_version(toy_trained: Trained, laptop: Laptop):
    def begun(stage: str, prefix: str) -> Callable[[], object]:
        return lambda: any(info.key.startswith(prefix) for info in laptop.workspace.objects(stage))

    command = laptop.train_command(toy_trained.dataset.uri)
    existing: set[str] = set()
    for run, moment, done in (
        ("first", begun("snapshot", "snapshot/"), set[str]()),
        ("second", begun("validate", "validate/"), {"snapshot"}),
        ("third", begun("convert", "convert/"), {"snapshot", "validate"}),
        ("fourth", begun("evaluate", "evaluate/"), {*SAME}),
        ("fifth", laptop.versions, {*SAME, "evaluate"}),
    ):
        kill_when(laptop.start(*command, "--run", run), moment)
        # It went on where the one before was killed: what had a receipt was reused, and nothing else.
        assert {stage for stage in STAGES if laptop.record(run).state(stage).reused} == existing
        existing = {stage for stage in STAGES if laptop.keys(stage)}
        assert done <= existing
    ended = laptop.run(*command).expect()
    assert {stage for stage, item in ended.summary["stages"].items() if item["reused"]} == existing
    assert {stage: ended.summary["stages"][stage]["key"] for stage in SAME} == {
        stage: toy_trained.key(stage) for stage in SAME
    }
    before, after = (entry.receipt("train", toy_trained.key("train")).digest for entry in (toy_trained.laptop, laptop))
    assert before == after
    assert laptop.versions() == [("tiny-digits", 1)]
    assert laptop.aliases() == {("tiny-digits", 1): "champion"}
    assert (ended.summary["version"], ended.summary["alias"]) == (1, "champion")


@pytest.mark.matrix
def test_of_three_at_once_one_trains_and_when_it_is_killed_the_second_takes_over(laptop: Laptop, digits: Dataset):
    gate = laptop.folder / "gate"
    command = laptop.train_command(digits.uri, settings=(*TOY, f"hold_until={gate}"))
    first = laptop.start(*command)
    wait_for(lambda: (recorded := laptop.progress()) and recorded.epoch >= 1, first)
    second = laptop.start(*command, "--run", "second")
    wait_for(lambda: "computes the same already; following it" in second.stderr, second)
    first.kill()
    attempts = wait_for(lambda: laptop.record("second").state("train").attempts, second)
    third = laptop.start(*command, "--run", "third")
    wait_for(lambda: "run second computes the same already" in third.stderr, third)
    gate.touch()
    two, three = second.end().expect(), third.end().expect()
    for stage in STAGES:
        assert two.summary["stages"][stage]["receipt"] == three.summary["stages"][stage]["receipt"]
    assert two.summary["version"] == three.summary["version"] == 1
    assert laptop.receipt("train", two.summary["stages"]["train"]["key"]).attempt in attempts
    assert laptop.record("third").state("train").attempts == []
    log = (laptop.folder / "home" / "logs" / "runs" / "second.log").read_text()
    assert "resuming after epoch 1 of 4" in log
    assert laptop.versions() == [("tiny-digits", 1)]


def test_a_killed_runner_takes_its_stage_along_and_the_next_run_resumes(laptop: Laptop, digits: Dataset):
    gate = laptop.folder / "gate"
    command = laptop.train_command(digits.uri, settings=(*TOY, f"hold_until={gate}"))
    first = laptop.start(*command, "--run", "first")
    runner = first.descendant("visionloop.pipelines.engines.laptop.runner")
    wait_for(lambda: (recorded := laptop.progress()) and recorded.epoch >= 1, first)
    runner.kill()
    sentence = first.end().refused(143)
    assert sentence == "train ends because the run that started it is gone; run it again to resume."
    laptop.wait_until_quiet()
    gate.touch()
    inputs = {stage: laptop.result(stage, laptop.keys(stage)[0]).uri for stage in ("snapshot", "convert")}
    arguments = ["--converted", inputs["convert"], "--snapshot", inputs["snapshot"]]
    again = laptop.stage("train", *arguments, settings=TOY, variables=UNTRACKED).expect()
    assert any("resuming after epoch 1 of 4" in line["message"] for line in again.log)
    # The killed run's seconds are the training's too.
    used = laptop.record("first").state("train").seconds
    assert used > 0
    now = laptop.progress()
    assert now is not None
    assert now.spent["first"] == used
    assert laptop.receipt("train", again.summary["key"]).timings["seconds"] > used


@pytest.mark.matrix
def test_a_stage_that_outlives_its_killed_command_is_followed_and_then_taken_over_from(laptop: Laptop, digits: Dataset):
    """A stage that hangs notices late that its run is gone; until it does, a second run waits for it."""
    gate = laptop.folder / "gate"
    command = laptop.train_command(digits.uri, settings=(*TOY, f"hold_until={gate}"))
    first = laptop.start(*command, "--run", "first")
    wait_for(lambda: (recorded := laptop.progress()) and recorded.epoch >= 1, first)
    # A fork of the server of tasks, with the same words, as has the reader of its stderr; the training is a process of its own.
    servers = [entry for entry in first.tree() if "task_server" in " ".join(entry.cmdline())]
    (server,) = [entry for entry in servers if entry.ppid() not in {other.pid for other in servers}]
    (stage,) = [entry for entry in servers if entry.ppid() == server.pid]
    stage.suspend()
    first.process.kill()
    first.process.wait()
    second = laptop.start(*command, "--run", "second")
    wait_for(lambda: "run first computes the same already; following it" in second.stderr, second)
    assert stage.status() == "stopped"
    stage.resume()
    taken = wait_for(lambda: laptop.record("second").state("train").attempts, second)
    failure = laptop.record("first").failure("train")
    assert failure is not None
    assert (failure.exit_code, failure.last_successful_epoch) == (143, 1)
    gate.touch()
    ended = second.end().expect()
    assert [laptop.receipt("train", ended.summary["stages"]["train"]["key"]).attempt] == taken
    log = (laptop.folder / "home" / "logs" / "runs" / "second.log").read_text()
    assert "resuming after epoch 1 of 4" in log
    assert laptop.versions() == [("tiny-digits", 1)]
    laptop.wait_until_quiet()
    assert not [info for info in laptop.workspace.objects("train") if info.key.endswith("reservation.json")]
