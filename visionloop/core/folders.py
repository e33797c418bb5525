"""Temporary folders that are removed even if their process was killed: the next process removes them.

A process holds a lock on its folder as long as it lives, so an unlocked folder belongs to nobody. A folder's name contains the
host's name: on a network file system, a lock may mean nothing to another host.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from visionloop.core.storage import writing

PREFIX = f"visionloop-temporary-{socket.gethostname()}-"

#: Seconds for which an unlocked folder is left alone: its creator may be about to lock it.
UNTOUCHED_SECONDS = 60


@contextlib.contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder for this process, removed at the end whatever happens, along with those of killed processes.

    Raises:
        SickMachine: If the disk is full.
        AccessDenied: If the temporary folder can't be written.
    """
    folder, held = _make(name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def process_folder(name: str) -> Path:
    """A folder that lasts as long as this process; a forked worker does not remove it.

    Raises:
        SickMachine: If the disk is full.
        AccessDenied: If the temporary folder can't be written.
    """
    folder, _ = _make(name)  # the lock lasts as long as the process: nothing closes it
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _make(name: str) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    with writing(Path(os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108 - named in the sentence only
        sweep()
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-"))
    return folder, hold(folder)


def hold(folder: Path) -> int:
    """Marks a folder as this process's for as long as it lives; the descriptor that holds it may be closed earlier."""
    held = os.open(folder, os.O_RDONLY)
    # A file system without locks keeps leftover folders: nobody can tell which of them may be removed.
    with contextlib.suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def remove_if_abandoned(folder: Path) -> bool:
    """Removes a folder that no living process of this host holds. Returns whether it did."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(held)
    return not folder.exists()


def sweep() -> int:
    """Removes the folders of processes that are gone. Returns their number."""
    removed = 0
    oldest = time.time() - UNTOUCHED_SECONDS
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime > oldest:
                continue
            removed += remove_if_abandoned(folder)
    return removed
