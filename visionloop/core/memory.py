"""How much memory this process may use, a budget that keeps what is decoded at once below it, and when garbage is not looked for."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

#: Bytes that are left to the interpreter and its libraries.
RESERVED = 512 * 10**6

#: Bytes for a pixel while it is decoded: three for the result, six for the coefficients of a progressive JPEG.
BYTES_PER_PIXEL = 9

#: The most bytes of all decodes at once, where a process may use more: with more of them at once nothing gets faster.
MOST_BYTES = 1_500_000_000

#: Where a process in a container finds its limit: control groups of version 2, and of version 1.
_LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python's collector of garbage from looking at each of many new values, none of which is in a circle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def memory_limit(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit where that is lower.

    Args:
        control_groups: Mount point of the control groups.
    """
    limit = psutil.virtual_memory().total
    for name in _LIMIT_FILES:
        with contextlib.suppress(OSError, ValueError):
            limit = min(limit, int((control_groups / name).read_text()))
    return limit


class MemoryBudget:
    """Bounds the memory of what runs at the same time in several threads.

    Work that alone needs more than the budget runs alone.
    """

    def __init__(self, limit: int) -> None:
        """``limit`` is in bytes."""
        self.limit = limit
        self.used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Waits until ``size`` bytes fit next to those already held, and holds them during the body."""
        with self._changed:
            self._changed.wait_for(lambda: self.used == 0 or self.used + size <= self.limit)
            self.used += size
        try:
            yield
        finally:
            with self._changed:
                self.used -= size
                self._changed.notify_all()


def decoding(width: int, height: int) -> AbstractContextManager[None]:
    """Holds the memory of decoding one image of this size in pixels, of the one budget of this process."""
    with _ONE:
        budget = _decodes()
    return budget.reserve(width * height * BYTES_PER_PIXEL)


#: The first decodes come from several threads at once, and each would make a budget of its own.
_ONE = threading.Lock()


@functools.cache
def _decodes() -> MemoryBudget:
    return MemoryBudget(min(memory_limit() - RESERVED, MOST_BYTES))
