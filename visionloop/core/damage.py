"""The mark on a key whose output was altered after its receipt: ``{stage}/{key}/damaged.json``.

It counts for the attempt that it names, so the receipt that replaces the marked one makes it void.
"""

from __future__ import annotations

import msgspec

from visionloop.core import structs
from visionloop.core.errors import AccessDenied, NotFound
from visionloop.core.storage import Prefix

FILE = "damaged.json"


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the mark: the output, the attempt that wrote it, and the SHA-256 that it has now."""

    output: str
    attempt: str
    sha256: str


def of_attempt(prefix: Prefix, attempt: str) -> Damage | None:
    """The mark of a key, if it counts for an attempt; ``prefix`` is the prefix of the key."""
    try:
        damage = structs.decode(prefix.read(FILE), Damage)
    except (NotFound, msgspec.MsgspecError):
        return None
    return damage if damage.attempt == attempt else None


def mark(prefix: Prefix, damage: Damage) -> bool:
    """Marks a key. Returns False if this process may not write there."""
    try:
        prefix.write(FILE, msgspec.json.encode(damage))
    except AccessDenied:
        return False
    return True
