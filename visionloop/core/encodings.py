"""Texts of people: files that any editor wrote, and terminals and logs in any encoding."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from typing import Any

from visionloop.core import texts

#: What stands in for a mark where an encoding lacks it; any other character becomes a question mark.
STAND_INS = {
    "✓": "+",
    "✗": "x",
    "●": "*",
    "–": "-",
    "—": "-",
    "…": "...",
    "→": "->",
    "×": "x",
    "·": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}

#: The name of the error handler that writes stand-ins.
HANDLER = "visionloop"


def is_half(text: str) -> bool:
    """Whether a text holds half a character, a surrogate, which no file and no store can hold."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def decoded(data: bytes) -> str:
    """A text file's content: UTF-8, with or without the byte order mark that editors on Windows put first.

    Raises:
        UnicodeDecodeError: If it is not UTF-8.
    """
    return data.decode("utf-8-sig")


def without_mark(data: bytes) -> bytes:
    """A text file's bytes without a byte order mark, for a reader of bytes."""
    return data.removeprefix(codecs.BOM_UTF8)


def write_anything() -> None:
    """Lets stdout and stderr take every text: what their encoding lacks is replaced and never an error."""
    codecs.register_error(HANDLER, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        # Whoever replaced a stream, as a notebook does, decides for it.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors=HANDLER)


def use_utf8() -> None:
    """Starts the process again in Python's UTF-8 mode where its locale has another encoding: file names and arguments are UTF-8.

    A terminal's encoding stays what it was.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout, "encoding", None) or "utf-8")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (itself, with the caller's arguments)


def print_json(value: Any, *, signed: bool = False) -> None:
    """Prints one JSON object as a line on stdout, the same object in every encoding.

    Args:
        value: The object.
        signed: Whether its presigned URLs keep their signatures: for a command that is asked for them.
    """
    text = texts.json_line(value, signed=signed)
    if not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        text = json.dumps(json.loads(text), separators=(",", ":"))
    print(text, flush=True)  # noqa: T201


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(STAND_INS.get(character, "?") for character in lost), error.end
