"""Ctrl-C and SIGTERM to ``visionloop run train``: all that it started ends, and nothing but time is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import laptop as machine
import pytest
from laptop import TOY, Command, Dataset, Laptop, wait_for

from visionloop.core.errors import UserStopped
from visionloop.core.processes import session
from visionloop.pipelines import services
from visionloop.pipelines.engines.laptop import run

pytestmark = pytest.mark.slow


def at_first_epoch(laptop: Laptop, dataset: str, *arguments: str) -> Command:
    """A run whose training waits after its first epoch."""
    settings = (*TOY, f"hold_until={laptop.folder / 'gate'}")
    command = laptop.start(*laptop.train_command(dataset, *arguments, settings=settings))
    wait_for(lambda: "epoch 1/4" in command.stderr, command)
    return command


@pytest.fixture
def embedded(tmp_path: Path, registry_template: Path) -> Iterator[Laptop]:
    """A laptop on which no MLflow is configured, with folders alone: a run uses the home's registry, and starts no service."""
    made = machine.build(tmp_path / "laptop", registry_template, machine.file_prefix(tmp_path / "workspace"), {})
    del made.variables["MLFLOW_TRACKING_URI"]
    yield made
    made.close()


def test_ctrl_c_ends_everything_and_keeps_the_best_so_far(embedded: Laptop, tmp_path: Path):
    dataset = Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects())
    command = at_first_epoch(embedded, dataset.uri, "--run", "stopped")
    command.process.send_signal(signal.SIGINT)
    assert command.end().refused(130) == "The run was stopped by the user; start it again to resume."
    assert not embedded.processes()
    assert not services.status(embedded.folder / "home").running

    (key,) = embedded.keys("train")
    kept = embedded.receipt("train", key)
    assert (kept.parameters["stopped_after_epoch"].value, kept.scalars["epochs"]) == (1, 1)
    failure = embedded.record("stopped").failure("train")
    assert failure is not None
    assert (failure.exit_code, failure.last_successful_epoch) == (130, 1)
    assert failure.receipt == f"{embedded.workspace.uri}/train/{key}/receipt.json"
    assert embedded.versions() == []

    (embedded.folder / "gate").touch()
    uris = embedded.prepare(dataset.uri)
    train = embedded.stage("train", "--converted", uris["convert"], "--snapshot", uris["snapshot"], settings=TOY)
    assert train.expect().summary["key"] != key
    assert train.summary["epochs"] == 4
    assert any("resuming after epoch 1 of 4" in line["message"] for line in train.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.matrix)])
def test_sigterm_ends_everything_and_a_later_run_resumes(
    make_laptop: Callable[..., Laptop], digits: Dataset, number: signal.Signals
):
    laptop = make_laptop()
    command = at_first_epoch(laptop, digits.uri)
    command.process.send_signal(number)
    sentence = command.end().refused(143)
    assert sentence == f"visionloop was asked to end by {number.name}; run it again to resume."
    assert not laptop.processes()
    assert laptop.keys("train") == []
    recorded = laptop.progress()
    assert recorded is not None
    assert recorded.epoch == 1


def test_ctrl_c_before_anything_has_begun_leaves_nothing_running(laptop: Laptop, digits: Dataset):
    command = laptop.start(*laptop.train_command(digits.uri))
    command.descendant("visionloop.pipelines.engines.laptop.runner")
    command.process.send_signal(signal.SIGINT)
    command.end().refused(130)
    assert not laptop.processes()
    assert laptop.keys("train") == []


@pytest.mark.matrix
def test_an_impatient_second_ctrl_c_leaves_nothing_running_either(laptop: Laptop, digits: Dataset):
    command = at_first_epoch(laptop, digits.uri)
    command.process.send_signal(signal.SIGINT)
    wait_for(lambda: laptop.record(next(iter(runs(laptop)))).failure("train"), command)
    command.process.send_signal(signal.SIGINT)
    assert command.end().code == 130
    assert not laptop.processes()


def runs(laptop: Laptop) -> list[str]:
    names, _ = laptop.workspace.children("runs")
    return names


def test_ctrl_c_while_the_runner_is_being_started_ends_it_too():
    started = []

    def start() -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        started.append(child)
        signal.raise_signal(signal.SIGINT)
        return child

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserStopped), run._running(start):
        pytest.fail("the run went on")
    (child,) = started
    assert child.poll() == -signal.SIGKILL
    assert signal.getsignal(signal.SIGINT) is handler


def test_whatever_the_runner_starts_while_it_is_ended_is_ended_with_it():
    endless = """if True:
        import subprocess, sys, time
        while True:
            subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
            time.sleep(0.01)
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", endless], start_new_session=True)

    def fail() -> None:
        with run._running(start) as process:
            leaders.append(process.pid)
            wait_for(lambda: len(session(process.pid)) > 3)
            raise ZeroDivisionError

    leaders: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert session(*leaders) == []
