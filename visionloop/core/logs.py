"""Log lines: JSON on stderr with the run's trace id in each, plain text on a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from visionloop.core import secrets, texts
from visionloop.core.errors import InvalidConfig, VisionloopError

LOGGER = logging.getLogger("visionloop")

#: Begins each line of a text log that has a trace id: ``[TRACE:3f0c…] epoch 1/20``.
TRACE_MARK = "[TRACE:"

#: Where log lines go while stderr itself is read (``core.stray``), and what is called with the fields of each line.
_redirected: TextIO | None = None
_on_fields: Callable[[dict[str, str]], None] = lambda fields: None  # noqa: E731


class JsonLines(logging.Formatter):
    """One JSON object a line: the fields of a log event, the trace id among them."""

    def __init__(self, context: dict[str, str]) -> None:
        """``context`` goes into every line (trace_id, run, stage)."""
        super().__init__()
        self.context = context

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline inside."""
        line = {
            "timestamp": utc(record.created),
            "level": record.levelname,
            "message": secrets.redact(record.getMessage()),
            # Ours, else the library's whose logger it is.
            "source": getattr(record, "source", "sdk" if record.name == LOGGER.name else record.name),
            **self.context,
        }
        if extra := getattr(record, "fields", None):
            line["metadata"] = secrets.redact_fields(extra)
        if record.exc_info:
            line["traceback"] = secrets.redact(self.formatException(record.exc_info))
        try:
            return texts.visible_json(msgspec.json.encode(line).decode())
        except (TypeError, ValueError):  # a lone surrogate from a file's name, or a value that JSON can't represent
            return json.dumps(line, default=str)


class Lines(logging.StreamHandler[Any]):
    """Writes log lines; an error that a signal raises while one is written goes on to the stage that was asked to end."""

    def flush(self) -> None:
        """Flushes; a stream that somebody has closed has nothing left to flush, and another one may take its place."""
        if not getattr(self.stream, "closed", False):
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        """Raises such an error; logging would print it with its traceback and go on."""
        if isinstance(error := sys.exc_info()[1], VisionloopError):
            raise error
        super().handleError(record)


class PlainLines(logging.Formatter):
    """For a person: the message, with its level unless it is INFO, and no traceback; after the trace id where there is one."""

    def __init__(self, trace_id: str = "") -> None:
        """``trace_id`` goes before each line."""
        super().__init__()
        self._before = f"{TRACE_MARK}{texts.sentence(trace_id)}] " if trace_id else ""

    def format(self, record: logging.LogRecord) -> str:
        """The message's lines."""
        text = texts.outgoing(record.getMessage())
        text = text if record.levelno == logging.INFO else f"{record.levelname}: {text}"
        return "\n".join(self._before + line for line in text.split("\n"))


def configure(*, trace_id: str, run: str, stage: str) -> None:
    """Sends Visionloop's log lines to the process's real stderr in the form that fits it.

    Raises:
        InvalidConfig: If VISIONLOOP_LOG_LEVEL or VISIONLOOP_LOG_FORMAT is not an allowed value.
    """
    stream = _redirected or sys.__stderr__ or sys.stderr
    handler = Lines(stream)
    wanted = form(stream)
    if wanted not in ("text", "json"):
        raise InvalidConfig(f"VISIONLOOP_LOG_FORMAT is '{wanted}'; give text or json.")
    level = os.environ.get("VISIONLOOP_LOG_LEVEL", "").upper() or "INFO"
    if level not in logging.getLevelNamesMapping():
        raise InvalidConfig(f"VISIONLOOP_LOG_LEVEL is '{level}'; give DEBUG, INFO, WARNING or ERROR.")
    fields = {"trace_id": trace_id, "run": run, "stage": stage}
    handler.setFormatter(formatter(wanted, fields))
    _use(handler, level)
    _on_fields(fields)


def formatter(wanted: str, fields: dict[str, str]) -> logging.Formatter:
    """Makes lines in a form, "text" or "json", with the fields of each (``configure``), none of which has to be there."""
    return PlainLines(fields.get("trace_id", "")) if wanted == "text" else JsonLines(fields)


def form(stream: TextIO | None) -> str:
    """The form of log lines on a stream, as VISIONLOOP_LOG_FORMAT says: text by default on a terminal, else json."""
    on_terminal = stream is not None and stream.isatty()
    return os.environ.get("VISIONLOOP_LOG_FORMAT", "").strip() or ("text" if on_terminal else "json")


def use_stream(stream: TextIO | None, on_fields: Callable[[dict[str, str]], None] = lambda fields: None) -> None:
    """Sends log lines to another stream than stderr, or back to it; ``on_fields`` is called with the fields of each line."""
    global _redirected, _on_fields
    _redirected, _on_fields = stream, on_fields
    for handler in LOGGER.handlers:
        if type(handler) is Lines:  # a test's or a file's stays
            handler.setStream(stream or sys.__stderr__ or sys.stderr)


def last_words(sentence: str) -> None:
    """Prints the sentence of a process that ends itself at once, where its log lines go."""
    print(sentence, file=_redirected or sys.__stderr__, flush=True)


def configure_for_people() -> None:
    """Sends notices and warnings to stderr as plain lines, for the commands that a person calls."""
    handler = Lines(sys.stderr)
    handler.setFormatter(PlainLines())
    _use(handler, logging.INFO)


def _use(handler: logging.StreamHandler[Any], level: int | str) -> None:
    """Sends our own lines to the handler, and the warnings of libraries, which would go to stderr as they are."""
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level)
    root = logging.getLogger()
    # What writes to stdout or stderr goes, such as the handler of an engine's executor; a test's or a file's stays.
    root.handlers[:] = [kept for kept in root.handlers if type(kept) not in (Lines, logging.StreamHandler)] + [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def utc(seconds: float) -> str:
    """Seconds since 1970 as the time of a log line: ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def notice(message: str) -> None:
    """Prints something that a person should know but that is not an error."""
    LOGGER.info(message, extra={"fields": {"kind": "notice"}})
