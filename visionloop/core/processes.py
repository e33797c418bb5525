"""Processes of this machine: which one an id means, which belong to a session, and children that do not outlive their parent."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
#: Seconds that the rest of a process group has to end by itself (Python's resource tracker removes the shared memory of a
#: killed process), and after SIGTERM.
OWN_END_SECONDS = 1.0
LEFT_SECONDS = 5.0

_STAT = Path("/proc/self/stat")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def started(pid: int) -> float | None:
    """When a living process was started (clock ticks since boot, else seconds); None if it is gone or a zombie.

    With the id, and with ``boot_id`` where it is kept, this distinguishes a process from every other one.
    """
    try:
        if _STAT.exists():
            # Not psutil's create_time: it is the wall clock's, whose corrections move it, and files hold these ticks.
            # proc(5): the name in brackets may hold anything; the state comes after it, the start as field 22.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return None if fields[0] in "ZX" else float(fields[19])
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (OSError, psutil.Error):
        return None


@functools.cache
def boot_id() -> str:
    """The id of this boot of the machine, "" where the system has none."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def session(leader: int) -> list[psutil.Process]:
    """The processes of a session, zombies among them; a session outlives its leader and keeps its id in use."""
    return _members(os.getsid, leader)


@contextlib.contextmanager
def process_group() -> Iterator[int]:
    """The id of a new process group in this process's session, whose processes are ended with the context, and when this process is killed.

    Popen's argument ``process_group`` puts a process into it; what that starts is in it as well. At the end the processes have
    ``OWN_END_SECONDS`` to end by themselves; then they get SIGTERM, and after ``LEFT_SECONDS`` SIGKILL.
    """
    # Its leader keeps the id in use. The pipe of its input closes with this process, however that ends.
    with subprocess.Popen(
        ["/bin/sh", "-c", "trap '' HUP INT TERM; read line; kill -s KILL 0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        process_group=0,
    ) as leader:
        try:
            yield leader.pid
        finally:
            try:
                if not _wait_until_empty(leader.pid, OWN_END_SECONDS):
                    os.killpg(leader.pid, signal.SIGTERM)
                    _wait_until_empty(leader.pid, LEFT_SECONDS)
            finally:
                os.killpg(leader.pid, signal.SIGKILL)
                _wait_until_empty(leader.pid, LEFT_SECONDS)  # a signal is sent before its process is gone


def _wait_until_empty(leader: int, seconds: float) -> bool:
    """Waits, at most so many seconds, until only its leader lives in a process group; returns whether that is so."""
    deadline = time.monotonic() + seconds
    while any(process.pid != leader and started(process.pid) for process in _members(os.getpgid, leader)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _members(group_of: Callable[[int], int], leader: int) -> list[psutil.Process]:
    """The processes that belong to a leader by their id, zombies among them."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if group_of(process.pid) == leader:
                processes.append(process)
    return processes


def end_quickly() -> None:
    """Spares this process the interpreter's last collection, which walks through all that was imported: up to two seconds."""
    atexit.register(_freeze)


def _freeze() -> None:
    # Frozen, triton's types are told as leaked by nanobind, in dozens of lines behind our own last one.
    if "triton" not in sys.modules:
        gc.freeze()


def die_with_parent(exit_code: int) -> None:
    """Has the kernel kill this process when its parent dies; exits at once if the parent is gone already. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(exit_code)
