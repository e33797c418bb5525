"""Locks in the workspace: one holder at a time; a dead or silent holder loses it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator

from visionloop.core.canonical import canonical, sha256
from visionloop.core.reservation import Reservation, Watcher
from visionloop.core.storage import Prefix

WAIT_SECONDS = 0.2


@contextlib.contextmanager
def locked(workspace: Prefix, subject: tuple[str, ...], run: str, alive: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of a subject: ``{workspace}/locks/register/{SHA-256 of the subject}/reservation.json``.

    It saves work and keeps a check and the following write together. If a store let two runs hold it, one of them would make
    a version and delete it again; two versions would never remain.

    Args:
        workspace: The results' prefix.
        subject: What is locked: a model's name, or a name and a training's digest.
        run: The run that holds it, for people.
        alive: Called while waiting.
    """
    prefix = workspace.child(f"locks/register/{sha256(canonical(list(subject)))}")
    watcher = Watcher(prefix)
    while True:
        if watcher.look():
            alive()
            time.sleep(WAIT_SECONDS)
            continue
        reservation = Reservation(prefix, run, uuid.uuid4().hex[:12])
        if reservation.take(watcher.etag):
            break
    try:
        yield
    finally:
        reservation.release()
