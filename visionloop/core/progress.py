"""The progress record of a key: how far its training has got, and which checkpoints it can be resumed from.

It only moves forward, whoever writes it, and names the last two checkpoints: a full store may have truncated the newest.
"""

from __future__ import annotations

import contextlib

import msgspec

from visionloop.core import structs
from visionloop.core.errors import NotFound, PreconditionFailed
from visionloop.core.receipts import finite
from visionloop.core.storage import Prefix

FILE = "progress.json"
GENERATIONS = 2


class Checkpoint(msgspec.Struct, frozen=True):
    """A durable checkpoint: its path relative to the key's folder, 1-based epoch, size in bytes and SHA-256."""

    path: str
    epoch: int
    size: int
    sha256: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``progress.json``; ``checkpoints`` has the newest first, ``spent`` the seconds so far by run.

    ``metrics`` are all of the epoch's, ``train_metrics`` and ``val_metrics`` the same by the part that they are of.
    """

    attempt: str
    epoch: int
    epochs: int
    checkpoints: list[Checkpoint]
    metrics: dict[str, float]
    train_metrics: dict[str, float] = {}
    val_metrics: dict[str, float] = {}
    best_epoch: int
    finished: bool = False
    spent: dict[str, float] = {}


def read(prefix: Prefix) -> Progress | None:
    """The progress of a key, or None if it is missing or unreadable."""
    try:
        return structs.decode(prefix.read(FILE), Progress)
    except (NotFound, msgspec.MsgspecError):
        return None


def advance(prefix: Prefix, progress: Progress) -> Progress:
    """Records ``progress`` unless the store already holds later progress; returns what the store holds afterwards."""
    progress = msgspec.structs.replace(
        progress,
        metrics=finite(progress.metrics),
        train_metrics=finite(progress.train_metrics),
        val_metrics=finite(progress.val_metrics),
    )
    data = msgspec.json.encode(progress)
    while True:
        try:
            stored, etag = prefix.read_with_etag(FILE)
        except NotFound:
            if prefix.create(FILE, data):
                return progress
            continue
        existing: Progress | None = None
        with contextlib.suppress(msgspec.MsgspecError):
            existing = structs.decode(stored, Progress)
        if existing is not None and existing.epoch >= progress.epoch:
            return existing
        try:
            prefix.replace(FILE, data, etag)
        except PreconditionFailed:
            continue
        return progress
