"""Processes are recognised by id and birth, ended with all of their session, and never mistaken for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from visionloop.pipelines.services.processes import Process, birth, find, start, stop, this_process

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        yield process
        process.kill()


def test_the_calling_process_is_alive() -> None:
    assert this_process().alive
    assert this_process() == this_process()


def test_another_birth_with_the_same_id_is_another_process(stranger: subprocess.Popen[bytes]) -> None:
    earlier = Process(stranger.pid, f"{birth(stranger.pid)}0")
    assert not earlier.alive
    stop(earlier)
    assert stranger.poll() is None


def test_a_process_of_an_earlier_boot_is_not_alive(stranger: subprocess.Popen[bytes]) -> None:
    born = birth(stranger.pid)
    assert born is not None
    earlier = Process(stranger.pid, f"another-boot:{born.rpartition(':')[2]}")
    assert not earlier.alive
    stop(earlier)
    assert stranger.poll() is None


def test_a_zombie_is_dead(stranger: subprocess.Popen[bytes]) -> None:
    process = Process(stranger.pid, str(birth(stranger.pid)))
    os.kill(stranger.pid, signal.SIGKILL)
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(stranger.pid).status() == psutil.STATUS_ZOMBIE
    assert not process.alive


def test_it_leads_its_own_session_and_writes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(
        [sys.executable, "-uc", "import os, time; print(os.environ, os.getcwd()); time.sleep(600)"],
        log,
        {"ONLY": "this"},
        tmp_path,
    )
    assert process is not None
    try:
        assert os.getsid(process.pid) == process.pid
        while b"\n" not in log.read_bytes():
            assert process.alive
        text = log.read_text()
        assert "'ONLY': 'this'" in text
        assert "HOME" not in text
        assert str(tmp_path) in text
    finally:
        stop(process)
    assert not process.alive


# Ignores SIGTERM and has a child that does too; says the child's id when both are deaf.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""


def _start_stubborn(folder: Path) -> tuple[Process, int]:
    log = folder / "log"
    process = start([sys.executable, "-c", STUBBORN], log, {}, folder)
    assert process is not None
    while not log.read_text().endswith("\n"):
        assert process.alive
    return process, int(log.read_text())


def test_stop_ends_deaf_processes_and_their_children(tmp_path: Path) -> None:
    process, child = _start_stubborn(tmp_path)
    assert birth(child) is not None
    stop(process, patience=0.2)
    assert not process.alive
    assert birth(child) is None


def test_stop_ends_the_children_of_a_dead_leader(tmp_path: Path) -> None:
    process, child = _start_stubborn(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    while process.alive:
        pass
    assert birth(child) is not None
    stop(process, patience=0.2)
    assert birth(child) is None


def test_find_takes_whole_arguments_of_session_leaders_only(tmp_path: Path) -> None:
    marker = f"--marker={tmp_path}"
    process = start([*SLEEP, marker], tmp_path / "log", {}, tmp_path)
    assert process is not None
    # Not a leader of a session: a command that a person typed, say.
    with subprocess.Popen([*SLEEP, marker]) as other:
        try:
            # The arguments appear when the program does, after the fork.
            while process not in find(marker):
                assert process.alive
            assert find(marker) == [process]
            assert find(marker[:-1]) == []
        finally:
            other.kill()
            stop(process)


def test_a_program_that_is_not_there_is_an_operating_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start([str(tmp_path / "absent")], tmp_path / "log", {}, tmp_path)


def test_a_long_log_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "store.log"
    with log.open("wb") as file:
        file.truncate(11 * 2**20)
    process = start([sys.executable, "-c", ""], log, {}, tmp_path)
    if process:
        stop(process)
    assert log.stat().st_size == 0
    assert (tmp_path / "store.old.log").stat().st_size == 11 * 2**20
