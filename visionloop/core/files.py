"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yields an empty file next to ``path`` to write to; it is renamed to ``path`` at the end, and removed after an error.

    Any number of processes may write the same path at once: the last one to finish wins. Nothing is forced to the disk
    (fsync), so this holds against killed processes, not against a loss of power.

    Args:
        path: The file to write, in a folder that exists.
        mode: The file's permissions, from its first byte on, less the umask.

    Raises:
        OSError: If the file can't be written there.
    """
    # Random rather than the process's id: pods share a folder and have the same ids, threads share one.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
