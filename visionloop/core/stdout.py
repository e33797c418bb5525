"""Keeps stdout, whose last line is the stage's JSON object, clean of what libraries print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO


@contextlib.contextmanager
def output_to(file: BinaryIO) -> Iterator[tuple[TextIO, TextIO]]:
    """Sends file descriptors 1 and 2 to a file for a while; yields stdout and stderr as they were, for what a person is to see."""
    kept = []
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        kept.append(os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors="replace"))
    try:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        yield kept[0], kept[1]
    finally:
        for stream, number, was in zip((sys.stdout, sys.stderr), (1, 2), kept, strict=True):
            stream.flush()
            was.flush()
            os.dup2(was.fileno(), number)
            was.close()


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends file descriptor 1 to stderr for a while, so that output from code in any language goes there."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
