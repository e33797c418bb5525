"""JSON into typed values, from any thread."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

Kind = TypeVar("Kind")

_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_LOCK = threading.Lock()


def decode(data: bytes | str, kind: type[Kind]) -> Kind:
    """Decodes JSON into a type.

    Not by ``msgspec.json.decode``: msgspec 0.22 works out a type when it first decodes one, and ends the process with signal 11
    where several threads do so at once.

    Raises:
        MsgspecError: If it is not JSON, or not of that type.
    """
    value: Kind = _decoder(kind).decode(data)
    return value


def convert(value: object, kind: type[Kind]) -> Kind:
    """A value of JSON's kinds as a type; otherwise as ``decode``."""
    _decoder(kind)
    return msgspec.convert(value, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        with _LOCK:
            decoder = _DECODERS.setdefault(kind, msgspec.json.Decoder(kind))
    return decoder
