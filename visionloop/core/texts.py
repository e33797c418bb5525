"""Text on its way out of the process, for people: no secret in it, and no character that would act in place of being seen."""

from __future__ import annotations

import re
import traceback as tracebacks
from typing import Any

import msgspec

from visionloop.core import secrets

#: Control characters (a terminal obeys them), marks of direction (they show a name in another order than its letters have),
#: separators that end a line, and the halves of a character that no encoding takes.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with each such character as an escape (``\x1b``, ``\u202e``); line ends and tabs stay."""
    return _ACTING.sub(lambda match: _escape(match[0]), text)


def visible_json(text: str) -> str:
    r"""JSON that means the same, with each such character inside its texts as ``\uXXXX``."""
    return _ACTING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def json_line(value: Any, *, signed: bool = False) -> str:
    """A value as one line of JSON for stdout; its presigned URLs keep their signatures where they are ``signed``."""
    return visible_json(msgspec.json.encode(value if signed else secrets.redact_fields(value)).decode())


def outgoing(text: str) -> str:
    """Free text as it may leave the process: no secret, every character visible."""
    return visible(secrets.redact(text))


def sentence(text: str) -> str:
    """The same on one line, with each run of white space as one space."""
    return visible(" ".join(secrets.redact(text).split()))


def traceback(error: BaseException) -> str:
    """An exception's traceback as it may leave the process."""
    return outgoing("".join(tracebacks.format_exception(error)))


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
