"""``visionloop run stop`` and ``run cancel``: a training ends early, keeps its best, and never under the key of a whole one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import laptop as machine
import pytest
from laptop import TINY, TOY, Dataset, Laptop, wait_for
from test_signals import at_first_epoch
from test_train_supervision import UNTRACKED, Prepared, here, prepared

from visionloop.components.train.training import Training
from visionloop.core import errors, stop
from visionloop.core.receipts import Receipt
from visionloop.core.stop import EVALUATE, Stop
from visionloop.training.supervision import channel

__all__ = ["here", "prepared"]

pytestmark = pytest.mark.slow

PLAIN, THEN_EVALUATE = Stop(), Stop(EVALUATE)


@pytest.fixture
def ask_after(here: Prepared, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Stop], None]:
    """Has a person ask for a stop once an epoch is told, so that the trainer learns it at the end of the next one."""
    monkeypatch.setattr(stop, "LOOK_SECONDS", 0)
    report = Training._report

    def ask(epoch: int, request: Stop) -> None:
        def reporting(self: Training, done: channel.Epoch) -> None:
            report(self, done)
            if done.epoch == epoch:
                stop.ask(self.context.run, request)

        monkeypatch.setattr(Training, "_report", reporting)

    return ask


def kept(laptop: Laptop) -> dict[int | None, Receipt]:
    """The trainings that have a receipt, by the epoch that each was stopped after."""
    results = [laptop.receipt("train", key) for key in laptop.keys("train")]
    stopped = [receipt.parameters.get("stopped_after_epoch") for receipt in results]
    epochs = [None if entry is None else int(str(entry.value)) for entry in stopped]
    return dict(zip(epochs, results, strict=True))


def whole(laptop: Laptop) -> str:
    """The key of the training that a run has begun."""
    (key,) = {
        info.key.split("/")[1] for info in laptop.workspace.objects("train") if info.key.endswith("progress.json")
    }
    return key


def test_a_stopped_training_ends_after_the_epoch_under_way_and_keeps_the_best(
    here: Prepared, ask_after: Callable[[int, Stop], None]
):
    ask_after(1, PLAIN)
    with pytest.raises(errors.UserStopped) as raised:
        here.train_here()
    assert (
        raised.value.sentence
        == "train was stopped after epoch 2 of 4, as was asked for; start the run again to resume."
    )
    failure, record = here.failure(), here.laptop.record("supervised")
    assert (failure.exit_code, failure.event, failure.last_successful_epoch) == (130, "stopped", 2)
    assert record.state("train").state == "cancelled"
    (result,) = kept(here.laptop).values()
    assert (result.scalars["epochs"], result.scalars["stopped_after_epoch"]) == (2, 2)
    assert failure.receipt == f"{here.laptop.workspace.uri}/train/{result.key}/receipt.json"
    # It counts for every attempt: not one more epoch is trained.
    with pytest.raises(errors.UserStopped, match="after epoch 2 of 4"):
        here.train_here()
    assert list(kept(here.laptop)) == [2]
    # Another run is not asked; nor is this one, once a person starts it again.
    stop.withdraw(record)
    outcome = here.train_here()
    assert outcome.receipt is not None
    assert outcome.receipt.key == whole(here.laptop) != result.key
    assert (outcome.scalars["epochs"], "stopped_after_epoch" in outcome.scalars) == (4, False)


def test_stopped_to_be_evaluated_it_succeeds_under_a_key_of_its_own(
    here: Prepared, ask_after: Callable[[int, Stop], None]
):
    ask_after(1, THEN_EVALUATE)
    outcome = here.train_here()
    assert outcome.receipt is not None
    assert (outcome.scalars["epochs"], outcome.scalars["stopped_after_epoch"]) == (2, 2)
    assert outcome.receipt.key != whole(here.laptop)
    state = here.laptop.record("supervised").state("train")
    assert (state.state, state.key, state.scalars["stopped_after_epoch"]) == ("succeeded", outcome.receipt.key, 2)
    assert outcome.receipt.attempt in state.attempts
    # An attempt that was lost after that takes the same result, and trains nothing.
    again = here.train_here()
    assert again.receipt == outcome.receipt
    # Another run with the same settings goes on to the whole training.
    other = here.train_here(run="other")
    assert other.receipt is not None
    assert other.receipt.key == whole(here.laptop)
    assert other.scalars["epochs"] == 4
    assert other.receipt.digest != outcome.receipt.digest


def test_equal_stops_give_equal_results(here: Prepared, ask_after: Callable[[int, Stop], None]):
    """A run that was stopped, lost and resumed has the bytes of one that was stopped there at once."""
    ask_after(1, PLAIN)
    with pytest.raises(errors.UserStopped):
        here.train_here()
    first = kept(here.laptop)[2]
    here.laptop.workspace.delete([info.key for info in list(here.laptop.workspace.objects("train"))])
    ask_after(1, THEN_EVALUATE)
    second = here.train_here(run="other").receipt
    assert second is not None
    assert (second.key, second.digest) == (first.key, first.digest)


@pytest.mark.parametrize("content", [b"[]", b"<html></html>"])
def test_whatever_lies_there_ends_a_training_that_has_not_begun(here: Prepared, content: bytes):
    here.laptop.record("supervised").prefix.write("stop.json", content)
    with pytest.raises(errors.UserStopped, match=r"train was stopped before its first epoch, as was asked for"):
        here.train_here()
    assert kept(here.laptop) == {}
    assert here.failure().receipt is None


def test_stopped_to_be_evaluated_before_it_has_begun_it_trains_one_epoch(here: Prepared):
    stop.ask(here.laptop.record("supervised"), THEN_EVALUATE)
    assert here.train_here().scalars["stopped_after_epoch"] == 1


def test_in_the_last_epoch_it_changes_nothing(here: Prepared, ask_after: Callable[[int, Stop], None]):
    ask_after(3, PLAIN)
    outcome = here.train_here()
    assert stop.requested(here.laptop.record("supervised")) == PLAIN
    assert outcome.scalars["epochs"] == 4
    assert list(kept(here.laptop)) == [None]
    assert here.train_here().reused


def test_a_run_that_follows_stops_waiting_and_the_training_goes_on(here: Prepared, tmp_path: Path):
    gate = tmp_path / "gate"
    arguments = [*here.arguments, "--run", "first"]
    command = here.laptop.start(
        *here.laptop.stage_command("train", *arguments, settings=(*TOY, f"hold_until={gate}")), variables=UNTRACKED
    )
    wait_for(lambda: (recorded := here.laptop.progress()) and recorded.epoch >= 1, command)
    stop.ask(here.laptop.record("second"), THEN_EVALUATE)
    with pytest.raises(errors.UserStopped) as raised:
        here.train_here(run="second")
    assert raised.value.sentence == (
        "train was stopped, as was asked for, while it followed the run first, whose training goes on; start this run again to follow it."
    )
    assert here.laptop.record("second").state("train").state == "cancelled"
    gate.touch()
    assert command.end().expect().summary["epochs"] == 4


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([setting for setting in TINY if not setting.startswith("epochs")], id="ultralytics"),
        pytest.param(
            ["trainer=torchvision", "model=fcos_tiny.yaml", "imgsz=32", "batch=8", "workers=0"],
            id="torchvision",
            marks=pytest.mark.matrix,
        ),
        pytest.param(
            ["trainer=transformers", "model=rtdetr_tiny.yaml", "imgsz=64", "batch=8", "workers=0"],
            id="transformers",
            marks=pytest.mark.matrix,
        ),
    ],
)
def test_a_stopped_run_is_evaluated_and_registered_under_its_own_key(
    laptop: Laptop, digits: Dataset, settings: list[str]
):
    """The smallest real trainings: so many epochs that each ends only because it is stopped."""
    command = laptop.start(*laptop.train_command(digits.uri, "--run", "night", settings=(*settings, "epochs=2000")))
    wait_for(lambda: laptop.record("night").state("snapshot").attempt, command)
    asked = laptop.run("run", "stop", "night", "--then", "evaluate").expect()
    assert json.loads(asked.stdout) == {"run": "night", "stopped": True, "ended": None}
    summary = command.end().expect().summary
    ((epoch, training),) = kept(laptop).items()
    assert epoch is not None
    assert 1 <= epoch < 2000
    assert training.scalars["epochs"] == epoch
    assert summary["stages"]["train"]["key"] == training.key != whole(laptop)
    evaluation = laptop.receipt("evaluate", summary["stages"]["evaluate"]["key"])
    assert evaluation.inputs["training"].digest == training.digest
    (version,) = laptop.versions()
    assert laptop.tags(*version)["visionloop.training_key"] == training.key
    card = laptop.result("register", summary["stages"]["register"]["key"]).read("card").decode()
    assert f"| stopped\\_after\\_epoch | {epoch} | stopped by the user |" in card
    again = laptop.run("run", "stop", "night", "--workspace", laptop.workspace.uri, "--output", "text").expect()
    assert again.stdout.splitlines() == ["run night has ended: succeeded; nothing to stop"]
    assert laptop.run("run", "cancel", "night", "--output", "text").expect().stdout.splitlines() == [
        "run night has ended: succeeded; nothing to cancel"
    ]


def test_a_run_is_cancelled_at_once(laptop: Laptop, digits: Dataset):
    command = at_first_epoch(laptop, digits.uri, "--run", "night")
    # An epoch is shown before its checkpoint is durable.
    wait_for(lambda: (recorded := laptop.progress()) and recorded.checkpoints, command)
    cancelled = laptop.run("run", "cancel", "night", "--output", "text").expect()
    assert cancelled.stdout.splitlines() == ["run night is cancelled; start it again to resume."]
    assert command.end().refused(130) == "The run was stopped by the user; start it again to resume."
    assert not laptop.processes()
    assert laptop.record("night").state("train").state == "cancelled"
    assert list(kept(laptop)) == [1]
    for verb in ("cancel", "stop"):
        told = laptop.run("run", verb, "night", "--output", "text").expect()
        assert told.stdout.splitlines() == [f"run night has ended: cancelled; nothing to {verb}"]
    assert not laptop.record("night").prefix.exists("stop.json")


def test_a_stop_counts_until_a_person_starts_the_run_again(laptop: Laptop, digits: Dataset):
    laptop.train(digits.uri, "--run", "night").expect()
    stop.ask(laptop.record("night"), PLAIN)
    assert laptop.train(digits.uri, "--run", "night", settings=(*TOY, "seed=1")).expect().summary["version"] == 2
    assert stop.requested(laptop.record("night")) is None


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_an_unknown_run_is_named(file_laptop: Laptop, verb: str):
    sentence = file_laptop.run("run", verb, "other").refused(78)
    assert sentence.startswith("no run other was started on this machine")
    assert "give its --workspace, or --engine argo or kfp" in sentence
    where = file_laptop.workspace.uri
    sentence = file_laptop.run("run", verb, "other", "--workspace", where).refused(78)
    assert sentence.startswith(f"{where} has no run other; give the name of its folder below runs/")
    for bad in ("../other", "a" * 300):
        assert "letters, digits" in file_laptop.run("run", verb, bad).refused(78)


def test_a_run_of_another_machine_is_stopped_in_its_workspace_and_cancelled_there(file_laptop: Laptop):
    record = file_laptop.record("far")
    record.open({"model_name": "m"}, None)
    where = ("--workspace", file_laptop.workspace.uri)
    file_laptop.run("run", "stop", "far", *where).expect()
    assert stop.requested(record) == PLAIN
    assert "no run far was started on this machine" in file_laptop.run("run", "cancel", "far", *where).refused(78)


def test_a_workspace_that_is_not_there_is_named(file_laptop: Laptop):
    nowhere = machine.file_prefix(file_laptop.folder / "nowhere").uri
    sentence = file_laptop.run("run", "stop", "night", "--workspace", nowhere).refused(78)
    assert sentence.startswith(f"{nowhere} has no run night")
