"""Makes log lines of what code in any language writes to stderr, so that each line of a log has the trace id, and none is plain among JSON.

A process of its own reads them: what a library prints while it crashes the stage is still logged. Linux only, as it forks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from visionloop.core import logs

#: The source of such lines, where a log line names the library's logger otherwise.
SOURCE = "stderr"

#: Begins a line by which the stage hands on the fields of its own log lines; nothing else writes such a byte.
_FIELDS = b"\0"

#: How a line begins that is a log line already, by the form.
_ALREADY = {"json": '{"timestamp":', "text": logs.TRACE_MARK}

#: A line without an end is cut at this size, in bytes.
_LONGEST = 2**16

#: Seconds to wait for the last lines: a process that outlives the stage may keep stderr open.
_PATIENCE = 2.0


@contextlib.contextmanager
def stray_lines() -> Iterator[None]:
    """Sends file descriptor 2 through the reader for a while, unless it is a terminal that shows text, where a bar is drawn in place."""
    form = logs.form(sys.__stderr__)
    drawn = form == "text" and sys.__stderr__ is not None and sys.__stderr__.isatty()
    if sys.platform != "linux" or form not in _ALREADY or drawn:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    read, write = os.pipe()
    reader = os.fork()
    if reader == 0:
        _forward(read, kept, form)
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
    try:
        with open(kept, "w", encoding="utf-8", errors="replace", closefd=False) as stream:
            logs.use_stream(stream, on_fields=_hand_on)
            try:
                yield
            finally:
                logs.use_stream(None)
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        _wait(reader)


def _hand_on(fields: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.write(2, _FIELDS + json.dumps(fields).encode() + b"\n")


def _wait(reader: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(reader, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.002)


def _forward(read: int, write: int, form: str) -> NoReturn:
    """The reader: ends when nobody has the other end any more."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # What else is open here must end with the stage, its stdout above all.
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in (read, write):
                with contextlib.suppress(OSError):
                    os.close(int(name))
        formatter = logs.formatter(form, {})
        for line in _lines(read):
            if line.startswith(_FIELDS):
                formatter = logs.formatter(form, json.loads(line[1:]))
            elif text := line.decode("utf-8", "replace").rstrip():
                # A log line already, of a child process, stays.
                told = text if text.startswith(_ALREADY[form]) else formatter.format(_record(text))
                os.write(write, f"{told}\n".encode())
    finally:
        os._exit(0)


def _lines(read: int) -> Iterator[bytes]:
    rest = b""
    while block := os.read(read, _LONGEST):
        # A bar is drawn again and again after a carriage return.
        *lines, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
        yield from lines
        if len(rest) > _LONGEST:
            yield rest
            rest = b""
    yield rest


def _record(text: str) -> logging.LogRecord:
    """A line as a record of the log."""
    record = logging.LogRecord(logs.LOGGER.name, logging.INFO, "", 0, text, None, None)
    record.source = SOURCE
    return record
