"""Which process of this machine works on a run, so that another one can find its workspace, and end it: ``runs/{run}.json`` in the home."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import msgspec

from visionloop.core import structs
from visionloop.core.errors import AccessDenied, Transient
from visionloop.pipelines.services.folder import Folder, naming_the_remedy, write_private
from visionloop.pipelines.services.processes import Process, this_process

#: Asks the process of a run to end it as Ctrl-C does, which a shell lets no process in the background hear.
CANCEL = signal.SIGUSR1

#: Seconds that a run gets to end: its stages have most of them to keep what they have.
END_SECONDS = 90.0


class Begun(msgspec.Struct, frozen=True):
    """A run that was started here: its workspace, the process that works on it, and when it was started (``runs.now``)."""

    workspace: str
    process: Process
    since: str


@contextlib.contextmanager
def begun(home: Folder, run: str, workspace: str, since: str) -> Iterator[None]:
    """Records that this process works on a run, and listens for `cancel` meanwhile. The record stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(CANCEL, interrupt)
    try:
        with naming_the_remedy(home):
            home.runs.mkdir(exist_ok=True, mode=0o700)
            write_private(home.runs / f"{run}.json", msgspec.json.encode(Begun(workspace, this_process(), since)))
        yield
    finally:
        # Not the default action, which would kill this process while it reports how the run ended.
        signal.signal(CANCEL, signal.SIG_IGN if previous is signal.SIG_DFL else previous)


def find(home: Folder, run: str) -> Begun | None:
    """What is recorded of a run of this name that was started here; None if nothing is."""
    try:
        return structs.decode((home.runs / f"{run}.json").read_bytes(), Begun)
    except (OSError, msgspec.MsgspecError):
        return None


def cancel(run: str, found: Begun) -> None:
    """Ends a run's process, and waits until it is gone.

    Raises:
        AccessDenied: If it is another user's.
        Transient: If it does not end.
    """
    try:
        os.kill(found.process.pid, CANCEL)
    except ProcessLookupError:
        return
    except PermissionError:
        raise AccessDenied(
            f"run {run}: its process {found.process.pid} is another user's; let that user cancel it."
        ) from None
    deadline = time.monotonic() + END_SECONDS
    while found.process.alive:
        if time.monotonic() > deadline:
            raise Transient(f"run {run}: its process {found.process.pid} has not ended yet; try again, or kill it.")
        time.sleep(0.1)
