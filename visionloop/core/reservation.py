"""Reservations: they save the cost of computing a key twice at the same time; correctness never depends on them.

A holder renews its object every ten seconds. A reader takes over if the object does not change for a minute by the reader's
own clock, or if the holder is a dead process of the same host.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from visionloop.core import structs
from visionloop.core.errors import NotFound, PreconditionFailed, VisionloopError
from visionloop.core.processes import boot_id, started
from visionloop.core.storage import Prefix

FILE = "reservation.json"
RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0

#: The attempts of this process that hold a key now; they all share one Holder.
_holding: set[str] = set()


class Holder(msgspec.Struct, frozen=True):
    """Identifies a process uniquely: host, boot, process id namespace, process id and start time.

    ``started`` counts from the boot where the system provides that, so corrections of the wall clock do not move it.
    """

    host: str
    boot: str
    namespace: int
    pid: int
    started: float

    def is_dead(self) -> bool:
        """Whether the process is known to be gone or a zombie; False for one of another host, boot or namespace."""
        mine = this_process()
        if (self.host, self.boot, self.namespace) != (mine.host, mine.boot, mine.namespace):
            return False
        return started(self.pid) != self.started


def this_process() -> Holder:
    """The calling process as a holder."""
    namespace = Path("/proc/self/ns/pid")
    return Holder(
        socket.gethostname(),
        boot_id(),
        namespace.stat().st_ino if namespace.exists() else 0,
        os.getpid(),
        started(os.getpid()) or 0.0,
    )


class Reserved(msgspec.Struct, frozen=True):
    """The content of ``reservation.json``."""

    run: str
    attempt: str
    holder: Holder
    heartbeat: int
    expires_after_seconds: float
    renewed_at: str


class Watcher:
    """Polls another process's reservation to find out when it is stale."""

    def __init__(self, prefix: Prefix) -> None:
        """``prefix`` is the prefix of the key."""
        self._prefix = prefix
        self._seen: tuple[str, float] | None = None
        self.reserved: Reserved | None = None
        self.etag: str | None = None

    def look(self) -> bool:
        """Whether a live process holds the key."""
        try:
            data, self.etag = self._prefix.read_with_etag(FILE)
            self.reserved = structs.decode(data, Reserved)
        except NotFound:
            self.reserved, self.etag = None, None
            return False
        except msgspec.MsgspecError:
            self.reserved = None
            return False
        if self.reserved.holder == this_process():
            # An attempt that is not holding any more failed to release the key: the store was down.
            return self.reserved.attempt in _holding
        mark = f"{self.reserved.attempt}:{self.reserved.heartbeat}"
        now = time.monotonic()
        if self._seen is None or self._seen[0] != mark:
            self._seen = (mark, now)
        return not self.reserved.holder.is_dead() and now - self._seen[1] < self.reserved.expires_after_seconds


class Reservation:
    """A key that this process holds; renewed by a thread until ``release``."""

    def __init__(self, prefix: Prefix, run: str, attempt: str) -> None:
        """Describes the reservation; ``take`` makes it."""
        self._prefix, self._run, self._attempt = prefix, run, attempt
        self._holder = this_process()
        self._beats = 0
        self._etag = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, over: str | None = None) -> bool:
        """Takes the key: creates the object, or replaces the stale one with the ETag ``over``. False if another process was faster."""
        if over is None:
            self._prefix.create(FILE, self._bytes())
        else:
            with contextlib.suppress(PreconditionFailed):
                self._prefix.replace(FILE, self._bytes(), over)
        # A write that was sent again because its answer was lost is refused, though the object is ours: read it to decide.
        if not self._reread():
            return False
        _holding.add(self._attempt)
        self._thread = threading.Thread(target=self._renew, name="reservation", daemon=True)
        self._thread.start()
        return True

    def release(self) -> None:
        """Releases the key; an object that belongs to another process by now is left alone."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        try:
            with contextlib.suppress(VisionloopError):
                if self._reread():
                    self._prefix.delete([FILE])
        finally:
            _holding.discard(self._attempt)  # whatever went wrong: nobody in this process waits for it

    def _reread(self) -> bool:
        """Whether the object is still our own; keeps its ETag for the next renewal."""
        try:
            data, etag = self._prefix.read_with_etag(FILE)
        except NotFound:
            return False
        with contextlib.suppress(msgspec.MsgspecError):
            if structs.decode(data, Reserved).attempt == self._attempt:
                self._etag = etag
                return True
        return False

    def _bytes(self) -> bytes:
        at = datetime.now(UTC).isoformat(timespec="seconds") if self._beats else ""
        return msgspec.json.encode(Reserved(self._run, self._attempt, self._holder, self._beats, STALE_SECONDS, at))

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            self._beats += 1
            # If the store is down for a while, the reservation just looks stale: at worst, work is done twice.
            with contextlib.suppress(VisionloopError):
                with contextlib.suppress(PreconditionFailed):
                    self._prefix.replace(FILE, self._bytes(), self._etag)
                if not self._reread():
                    return
