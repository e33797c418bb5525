"""The stage runner in processes of its own: two at once, killed half-way, asked to end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_stage
from toy_stage import executions

from visionloop.core import receipts, reservation
from visionloop.core.limits import RUNNER_VARIABLE
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix
from visionloop.core.workspace import FILE, Probe

SCRIPT = Path(__file__).with_name("toy_stage.py")


class Toys:
    """Starts toy stages as processes, and ends those that a test leaves."""

    def __init__(self, folder: Path, workspace: str) -> None:
        self.folder, self.workspace = folder, workspace
        self.gate = folder / "gate"
        self.events = folder / "events"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, run: str, stderr: dict[str, Any] | None = None, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps({"workspace": self.workspace, "run": run} | (stderr or {}))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A killed process leaves its temporary folder behind: here in the test's own.
            env=os.environ | {"VISIONLOOP_EVENTS": str(self.events), "TMPDIR": str(self.folder)} | variables,
        )
        self.started.append(process)
        return process

    def start_waiting(self, run: str, **variables: str) -> subprocess.Popen[str]:
        """Starts one that computes until the gate opens; returns once it does."""
        before = executions()
        process = self.start(run, None, TOY_WAIT=str(self.gate), **variables)
        wait_until(lambda: executions() > before, process)
        return process

    def heard(self, kind: str, run: str | None = None) -> bool:
        """Whether an event was told."""
        if not self.events.exists():
            return False
        arguments = [json.loads(line) for line in self.events.read_text().splitlines()]
        return any(event["kind"] == kind and run in (None, event.get("run")) for event in arguments)

    def record(self, run: str) -> RunRecord:
        return RunRecord(open_prefix(self.workspace, "results"), run)

    def receipt(self) -> receipts.Result | None:
        """The workspace's one receipt, its outputs verified."""
        prefix = open_prefix(self.workspace, "results")
        results = [info.key for info in prefix.objects("toy") if info.key.endswith("/receipt.json")]
        return receipts.load(f"{prefix.uri}/{results[0]}", "toy") if results else None


@pytest.fixture
def workspace(workspace: str) -> str:
    """A workspace whose store is known: finding out takes SeaweedFS a second, and has its own test."""
    result = Probe(created_at="", conditional_create=True, read_after_write=True)
    open_prefix(workspace, "results").write(FILE, msgspec.json.encode(result))
    return workspace


def prepare(folder: Path, workspace: str, patch: pytest.MonkeyPatch) -> Iterator[Toys]:
    (folder / "executions").mkdir()
    patch.setenv("TOY_COUNT", str(folder / "executions"))
    toys = Toys(folder, workspace)
    yield toys
    for process in toys.started:
        process.kill()
        process.communicate()


@pytest.fixture
def toys(tmp_path: Path, workspace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    """Toys on each store."""
    yield from prepare(tmp_path, workspace, monkeypatch)


@pytest.fixture
def file_toys(tmp_path: Path, file_workspace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    """Toys on files, where the store makes no difference."""
    yield from prepare(tmp_path, file_workspace, monkeypatch)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any] | None, str]:
    """Exit code, the JSON on stdout if any, and the last line on stderr."""
    output, stderr = process.communicate(timeout=60)
    return process.returncode, json.loads(output) if output else None, (stderr.splitlines() or [""])[-1]


def test_of_two_at_once_one_computes_and_the_other_follows(toys):
    first = toys.start_waiting("first")
    second = toys.start("second")
    wait_until(lambda: toys.heard("follow", "first"), second)
    toys.gate.touch()
    (code, entry, _), (other_code, other, _) = end(first), end(second)
    assert (code, other_code) == (0, 0)
    assert entry is not None
    assert other is not None
    assert (entry["key"], entry["receipt"]) == (other["key"], other["receipt"])
    assert (entry["reused"], other["reused"], executions()) == (False, True, 1)
    assert toys.record("second").state("toy").attempts == []


def test_when_the_first_is_killed_half_way_the_second_takes_over(toys):
    first = toys.start_waiting("first")
    second = toys.start("second")
    wait_until(lambda: toys.heard("follow", "first"), second)
    assert toys.receipt() is None
    first.kill()
    code, summary, _ = end(second)
    assert code == 0
    assert summary is not None
    assert (summary["reused"], executions()) == (False, 2)
    result = toys.receipt()
    assert result is not None
    assert [result.receipt.attempt] == toys.record("second").state("toy").attempts
    assert not result.prefix.exists(reservation.FILE)


def test_a_late_finisher_takes_the_winners_receipt_and_leaves_it(toys):
    late = toys.start_waiting("late")
    prefix = open_prefix(toys.workspace, "results")
    # As if its heartbeat had stopped for a minute, while it lives on.
    prefix.delete([info.key for info in prefix.objects("toy") if info.key.endswith(reservation.FILE)])
    code, winner, _ = end(toys.start("winner"))
    assert code == 0
    assert winner is not None
    won = toys.receipt()
    toys.gate.touch()
    code, other, _ = end(late)
    result = toys.receipt()
    assert code == 0
    assert won is not None
    assert result is not None
    assert other is not None
    assert executions() == 2
    assert other["receipt"] == winner["receipt"]
    assert result.receipt == won.receipt
    assert [result.receipt.attempt] == toys.record("winner").state("toy").attempts
    assert toys.record("late").state("toy").state == "succeeded"


@pytest.mark.parametrize(
    ("number", "code", "state"), [(signal.SIGTERM, 143, "failed"), (signal.SIGINT, 130, "cancelled")]
)
def test_one_that_is_asked_to_end_says_so_gives_the_key_back_and_is_not_tried_again(toys, number, code, state):
    process = toys.start_waiting("one", VISIONLOOP_ATTEMPTS="3")
    process.send_signal(number)
    got, summary, sentence = end(process)
    assert (got, summary, executions()) == (code, None, 1)
    assert sentence.endswith("run it again to resume.")
    failure = toys.record("one").failure("toy")
    assert failure is not None
    assert (failure.exit_code, failure.error_message) == (code, sentence)
    assert toys.record("one").state("toy").state == state
    prefix = open_prefix(toys.workspace, "results")
    assert not [info for info in prefix.objects("toy") if info.key.endswith(".json")]
    toys.gate.touch()
    assert end(toys.start("one"))[0] == 0


def test_one_that_waits_for_its_next_attempt_can_be_asked_to_end(file_toys):
    process = file_toys.start("one", VISIONLOOP_ATTEMPTS="3", TOY_FAIL="Transient", TOY_BACKOFF="60")
    wait_until(lambda: file_toys.heard("retry"), process)
    process.send_signal(signal.SIGTERM)
    code, _, sentence = end(process)
    assert (code, executions()) == (143, 1)
    assert sentence == "toy was asked to end by SIGTERM; run it again to resume."
    failure = file_toys.record("one").failure("toy")
    assert failure is not None
    assert failure.exit_code == 143


def test_one_whose_runner_was_killed_ends_and_says_so(file_toys):
    runner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = file_toys.start_waiting("one", **{RUNNER_VARIABLE: str(runner.pid)})
    runner.kill()
    code, _, sentence = end(process)
    runner.communicate()
    assert (code, sentence) == (143, "toy ends because the run that started it is gone; run it again to resume.")


def test_on_failure_the_last_line_is_the_sentence_and_no_traceback_is_shown(file_toys):
    code, summary, sentence = end(file_toys.start("one", TOY_FAIL="AccessDenied"))
    assert (code, summary, sentence) == (77, None, "The toy failed as it was told; run it again.")
    process = file_toys.start("two", TOY_FAIL="ZeroDivisionError")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 70
    assert "Traceback" not in stderr


def test_killed_at_random_moments_it_leaves_no_half_result(toys, tmp_path):
    moments = random.Random(0)
    inputs = ",".join("abcdefgh")
    fields = {"inputs": inputs}
    uninterrupted = toy_stage.run((tmp_path / "uninterrupted").as_uri(), inputs=inputs).receipt
    assert uninterrupted is not None
    for number in range(3):
        process = toys.start(f"killed{number}", fields, TOY_SLEEP="0.04")
        if number:
            began = executions()
            wait_until(lambda began=began, process=process: executions() > began or process.poll() is not None)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 0.45))
        process.kill()
        process.communicate()
        # Whatever there is now is whole: ``receipt`` verifies every output.
        result = toys.receipt()
        assert result is None or result.receipt.digest == uninterrupted.digest
    code, summary, _ = end(toys.start("last", fields))
    assert code == 0
    result = toys.receipt()
    assert summary is not None
    assert result is not None
    assert summary["key"] == uninterrupted.key
    assert result.receipt.digest == uninterrupted.digest
    assert all(result.read(name) for name in result.receipt.outputs)
