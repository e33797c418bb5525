"""The lines of a stage's log as events."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from visionloop.core import texts
from visionloop.core.logs import utc
from visionloop.training.events.payloads import LogLine
from visionloop.training.events.publisher import Publisher


class Lines(logging.Handler):
    """Tells the stage's own lines of the log."""

    def __init__(self, publisher: Publisher) -> None:
        """``publisher`` sends them."""
        super().__init__()
        self._publisher = publisher

    def emit(self, record: logging.LogRecord) -> None:
        """Tells one line."""
        fields: dict[str, Any] | None = getattr(record, "fields", None)
        try:
            self._publisher.log(
                LogLine(
                    level=level_of(record.levelname),
                    message=texts.outgoing(record.getMessage()),
                    timestamp=utc(record.created),
                    source="sdk",
                    metadata=msgspec.to_builtins(fields, enc_hook=str) if fields else None,
                )
            )
        except (
            TypeError,
            ValueError,
        ):  # arguments that do not fit the text, or no value of JSON's: the log itself has it
            return


def level_of(name: str) -> Any:
    """One of the levels that an event has."""
    return {"CRITICAL": "ERROR"}.get(name, name if name in ("DEBUG", "INFO", "WARNING", "ERROR") else "INFO")
