"""Detached processes, identified by process id and birth, so that an unrelated process is never signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from visionloop.core.errors import SickMachine
from visionloop.core.processes import boot_id, session, started

#: Seconds between SIGTERM and SIGKILL. SeaweedFS waits 15 s for its own idle streams; its data survive SIGKILL.
PATIENCE_SECONDS = 2.0

#: Seconds that the kernel may take to end a killed process.
LONGEST_DEATH_SECONDS = 30.0

#: A log above this size, in bytes, is set aside when its service starts again.
LONGEST_LOG = 10 * 2**20

# A Popen warns if it is collected while its process is alive; ours outlive their starter on purpose.
_started: list[subprocess.Popen[bytes]] = []


class Process(msgspec.Struct, frozen=True):
    """A process by its id and its birth (an opaque text that differs for a later process with the same id)."""

    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether this same process is still running; a zombie is not."""
        return birth(self.pid) == self.born


def birth(pid: int) -> str | None:
    """When a living process was born, or None if there is no such process: the boot id and the start within that boot, if known."""
    for child in list(_started):
        # Reaps ended processes; a zombie would keep its id.
        if child.poll() is not None:
            _started.remove(child)
    since = started(pid)
    if since is None:
        return None
    boot = boot_id()
    return f"{boot}:{since:.0f}" if boot else f"{since:.2f}"


def this_process() -> Process:
    """The calling process."""
    born = birth(os.getpid())
    if born is None:
        raise RuntimeError("the calling process has no birth")
    return Process(os.getpid(), born)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Process | None:
    """Starts a command in a session of its own, so that neither Ctrl-C nor the end of its starter reaches it.

    What it makes belongs to this user alone.

    Args:
        command: The program and its arguments.
        log: The file that its output is appended to.
        environment: All of the process's variables.
        folder: Its working folder.

    Returns:
        The process, or None if it ended at once.

    Raises:
        OSError: If the program or the log can't be opened.
    """
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        log.replace(log.with_suffix(".old.log"))
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            # SeaweedFS makes Unix sockets in /tmp, whose mode says who may connect.
            umask=0o077,
        )
    _started.append(child)
    born = birth(child.pid)
    return Process(child.pid, born) if born else None


def stop(process: Process, patience: float = PATIENCE_SECONDS) -> None:
    """Ends a process that ``start`` started and its whole session: SIGTERM, then SIGKILL after ``patience`` seconds.

    Does nothing when the id belongs to another process by now.

    Raises:
        SickMachine: If even SIGKILL does not end it, for example because a disk does not answer.
    """
    began = time.monotonic()
    _signal(_session(process), signal.SIGTERM)
    while members := _session(process):
        waited = time.monotonic() - began
        if waited > patience + LONGEST_DEATH_SECONDS:
            raise SickMachine(f"Process {members[0]} does not end even by SIGKILL; restart the machine.")
        if waited > patience:
            _signal(members, signal.SIGKILL)
        time.sleep(0.05)


def _session(leader: Process) -> list[int]:
    """The living processes of a leader's session."""
    if birth(leader.pid) not in (leader.born, None):
        return []
    boot = boot_id()
    if boot and not leader.born.startswith(f"{boot}:"):
        return []
    return [member.pid for member in session(leader.pid) if birth(member.pid) is not None]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def find(argument: str) -> list[Process]:
    """This user's processes that have ``argument`` on their command line and lead a session.

    Finds processes whose starter was killed before it recorded them.
    """
    matches = []
    for process in psutil.process_iter(["cmdline", "uids"]):
        if argument not in (process.info["cmdline"] or ()) or process.info["uids"].real != os.getuid():
            continue
        born = birth(process.pid)
        try:
            if born and os.getsid(process.pid) == process.pid:
                matches.append(Process(process.pid, born))
        except ProcessLookupError:
            continue
    return matches
