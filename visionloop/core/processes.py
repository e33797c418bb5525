"""Processes of this machine: which one an id means, which belong to a session, and a child that does not outlive its parent."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import os
import signal
import sys
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
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
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader:
                processes.append(process)
    return processes


def end_quickly() -> None:
    """Spares this process the interpreter's last collection, which walks through all that was imported: up to two seconds."""
    atexit.register(gc.freeze)


def die_with_parent(exit_code: int) -> None:
    """Has the kernel kill this process when its parent dies; exits at once if the parent is gone already. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(exit_code)
