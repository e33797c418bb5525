"""The progress record of a key: how far its training has got, and which checkpoints it can be resumed from.

It only moves forward, whoever writes it, and names the checkpoints of the last two epochs, since a full store may have truncated the
newest, and behind them the newest one within an epoch.
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
    """A durable checkpoint: its path relative to the key's folder, size in bytes and SHA-256.

    ``epoch`` is the last one that is done, from 1, and ``step`` how many steps of the next one are; 0 at an epoch's end.
    """

    path: str
    epoch: int
    size: int
    sha256: str
    step: int = 0

    @property
    def at(self) -> tuple[int, int]:
        """How far it is; of two the greater one is further."""
        return self.epoch, self.step


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``progress.json``; ``checkpoints`` has the newest first, ``spent`` the seconds so far by run.

    ``epoch`` is the last one that is done, 0 before the first, and ``step`` how many steps of the next one are. ``metrics`` are all of the epoch's, ``train_metrics`` and ``val_metrics`` the same by the part that they are of.
    """

    attempt: str
    epoch: int
    step: int = 0
    epochs: int
    checkpoints: list[Checkpoint]
    metrics: dict[str, float]
    train_metrics: dict[str, float] = {}
    val_metrics: dict[str, float] = {}
    best_epoch: int
    finished: bool = False
    spent: dict[str, float] = {}

    @property
    def at(self) -> tuple[int, int]:
        """How far it is; of two the greater one is further."""
        return self.epoch, self.step


def kept(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Those that are kept, the newest first: of the last epochs, and of those within an epoch the newest if it is behind them."""
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.at, reverse=True)
    within = [checkpoint for checkpoint in ordered[:1] if checkpoint.step]
    return within + [checkpoint for checkpoint in ordered if not checkpoint.step][:GENERATIONS]


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
        if existing is not None and existing.at >= progress.at:
            return existing
        try:
            prefix.replace(FILE, data, etag)
        except PreconditionFailed:
            continue
        return progress
