"""Placeholder until tracking lands."""

from __future__ import annotations

from typing import Any

from visionloop.components.receipts import NOT_TRACKED


class TrackedTraining:
    """Tracks nothing."""

    def __init__(self, *_: Any) -> None: ...

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None: ...

    def finish(self, status: str, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...

    def record(self) -> dict[str, Any] | str:
        return NOT_TRACKED
