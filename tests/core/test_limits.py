"""Timers and signals: each way to end has its exit code, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from visionloop.core.errors import Terminated, Transient
from visionloop.core.limits import RUNNER_VARIABLE, Limits

SCRIPT = Path(__file__).with_name("limited.py")


def start(case: str, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), case],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (signal.SIGTERM, 143, "toy was asked to end by SIGTERM; run it again to resume."),
        (signal.SIGINT, 130, "toy was stopped by the user; run it again to resume."),
    ],
)
def test_a_signal_ends_the_work_through_its_own_cleanup(number, code, sentence):
    process = start("work")
    process.send_signal(number)
    assert end(process) == (code, "cleaned up True\n", sentence + "\n")


def test_a_second_signal_does_not_disturb_what_the_first_began():
    process = start("twice")
    assert process.stdin is not None
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline() for _ in range(2)] == ["cleaned up True\n", "telling\n"]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert process.poll() is None
    code, _, errors = end(process)
    assert (code, errors) == (130, "toy was stopped by the user; run it again to resume.\n")


@pytest.mark.parametrize("case", ["limit", "used"])
def test_the_time_limit_counts_over_all_attempts(case):
    code, output, errors = end(start(case))
    assert (code, output) == (79, "cleaned up False\n")
    assert "time limit" in errors
    assert "over all attempts; raise the policy's timeout." in errors


def test_silence_is_124_and_nobodys_wish():
    code, output, errors = end(start("silent"))
    assert (code, output) == (124, "cleaned up False\n")
    assert errors == "toy finished no work for 0.2 s; it is tried again.\n"


def test_the_death_of_the_runner_ends_the_stage():
    runner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = start("work", **{RUNNER_VARIABLE: str(runner.pid)})
    time.sleep(0.2)
    assert process.poll() is None
    # Killed and not yet collected by its parent, this process: a zombie runs nothing.
    runner.kill()
    code, output, errors = end(process)
    runner.communicate()
    assert (code, output) == (143, "cleaned up True\n")
    assert "the run that started it is gone" in errors


def test_a_runner_that_was_gone_before_ends_the_stage_too():
    runner = subprocess.Popen([sys.executable, "-c", ""])
    runner.wait()
    assert end(start("work", **{RUNNER_VARIABLE: str(runner.pid)}))[0] == 143


@pytest.mark.parametrize("value", ["", "none", "²", "-1"])
def test_a_runner_variable_that_names_no_process_is_no_runner(monkeypatch, value):
    monkeypatch.setenv(RUNNER_VARIABLE, value)
    monkeypatch.setattr("visionloop.core.limits.TICK_SECONDS", 0.01)
    looked = threading.Event()
    with Limits("toy", 60, 0) as limits:
        limits.on_tick = looked.set
        assert looked.wait(30)
    assert not limits.stopping


@pytest.mark.parametrize(
    ("case", "code"), [("stuck-silent", 124), ("stuck-limit", 79), ("stuck-telling", 124), ("thread", 79)]
)
def test_foreign_code_that_never_returns_is_ended(case, code):
    got, output, errors = end(start(case))
    assert got == code
    assert output == ("" if case == "stuck-telling" else f"told {code}\n")
    assert errors.count("\n") == 1


def test_a_limit_is_raised_and_never_lowered():
    with Limits("toy", 60, 0) as limits:
        limits.allow(1300)
        limits.allow(300)
    assert limits.limit == 1300


def test_work_that_swallows_its_end_is_ended():
    process = start("swallowed")
    process.send_signal(signal.SIGTERM)
    code, output, errors = end(process)
    assert (code, output) == (143, "swallowed\n")
    assert "asked to end by SIGTERM" in errors


def be_terminated() -> None:
    with Limits("toy", 60, 10) as limited:
        assert limited.seconds >= 10
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_the_signals_and_the_timer_are_given_back():
    def mine(*_):
        raise AssertionError

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    timer = signal.getitimer(signal.ITIMER_REAL)
    try:
        signal.signal(signal.SIGALRM, mine)
        signal.setitimer(signal.ITIMER_REAL, 1000, 2000)
        with pytest.raises(Terminated):
            be_terminated()
        assert signal.getsignal(signal.SIGALRM) is mine
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 900 < left <= 1000
        assert interval == 2000
    finally:
        signal.signal(signal.SIGALRM, before[signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert {number: signal.getsignal(number) for number in before} == before


def ask_to_end() -> None:
    """SIGTERM, and the error swallowed as a library's own ``except Exception`` does."""
    with contextlib.suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def work_on() -> None:
    with Limits("toy", 60, 0) as limited:
        ask_to_end()
        limited.alive()
        raise AssertionError


def fail_for_another_reason() -> None:
    with Limits("toy", 60, 0):
        ask_to_end()
        raise Transient("MLflow does not answer.")


def keep_something() -> None:
    with Limits("toy", 60, 0) as limited:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Terminated:
            limited.give_time()
            limited.alive()
            raise EOFError from None  # reached only if the line before raises nothing


def test_an_end_that_a_library_swallowed_is_raised_again_at_the_next_finished_work():
    with pytest.raises(Terminated, match="toy was asked to end"):
        work_on()


def test_an_end_that_a_library_made_into_another_error_is_still_the_end():
    with pytest.raises(Terminated, match="toy was asked to end") as raised:
        fail_for_another_reason()
    assert isinstance(raised.value.__cause__, Transient)


def test_a_stage_that_keeps_what_it_has_is_given_time():
    with pytest.raises(Terminated) as raised:
        keep_something()
    assert isinstance(raised.value.__cause__, EOFError)


def test_work_that_was_finished_all_the_same_is_a_success():
    with Limits("toy", 60, 0) as limits:
        ask_to_end()
    assert limits.asked_to_end


def test_a_stuck_stage_ends_though_nobody_reads_what_it_says():
    """A runner that was killed leaves a pipe without a reader."""
    process = start("stuck-silent")
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    assert process.wait(30) == 124
    process.communicate()
