"""The request to end a run's training: ``runs/{run}/stop.json``. It counts for every attempt, until a person starts that run again."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Final, Literal

import msgspec

from visionloop.core import structs
from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.runs import STOP_FILE, RunRecord

#: What a run may do once its training is stopped, besides ending.
EVALUATE: Final = "evaluate"

#: Seconds between two looks at most: an epoch may take less than one.
LOOK_SECONDS = 60.0

#: The most bytes that are read; a request has less.
LONGEST_BYTES = 65536


class Stop(msgspec.Struct, frozen=True):
    """The content of ``stop.json``: what the run does once its training is stopped, "" where it ends.

    ``cancelled`` is left by who has the engine end the run at once: a stage that is ended by a signal tells it as a person's wish.
    """

    then: Literal["", "evaluate"] = ""
    cancelled: bool = False


def ask(record: RunRecord, request: Stop) -> None:
    """Asks a run to stop its training; of several requests the last one counts.

    Raises:
        InvalidConfig: If a folder lies there.
        VisionloopError: If the store can't be written.
    """
    content = {name: value for name, value in msgspec.structs.asdict(request).items() if value}
    try:
        record.prefix.write(STOP_FILE, msgspec.json.encode(content))
    except AccessDenied:
        if record.prefix.on_files and STOP_FILE in record.prefix.children()[0]:
            raise InvalidConfig(f"{record.uri}/{STOP_FILE} is a folder; remove it, then stop the run again.") from None
        raise


def withdraw(record: RunRecord) -> None:
    """Removes the request: a person starts the run again."""
    if record.prefix.exists(STOP_FILE):
        record.prefix.delete([STOP_FILE])


def requested(record: RunRecord) -> Stop | None:
    """What a run was asked for; None without a request. Content that can't be read asks for a stop and nothing else.

    Raises:
        VisionloopError: If the store does not answer, or may not be asked.
    """
    prefix = record.prefix
    try:
        if prefix.head(STOP_FILE).size > LONGEST_BYTES:
            return Stop()
        data = prefix.read(STOP_FILE)
    except NotFound:
        return None
    except VisionloopError:
        # A proxy that answers everything with its page would stop every training; a store has no object of a random name.
        if prefix.exists(uuid.uuid4().hex):
            raise
        return Stop() if prefix.exists(STOP_FILE) else None
    with contextlib.suppress(msgspec.MsgspecError):
        return structs.decode(data, Stop)
    return Stop()


def is_cancelled(record: RunRecord) -> bool:
    """Whether a person has had the engine end the run at once; False where that is not known."""
    with contextlib.suppress(VisionloopError):
        request = requested(record)
        return request is not None and request.cancelled
    return False


class Watch:
    """Looks for a run's request, once in ``LOOK_SECONDS`` at most, and keeps what it has seen."""

    def __init__(self, record: RunRecord) -> None:
        """``record`` is the run's; nothing is read yet."""
        self._record = record
        self._next = 0.0
        self._seen: Stop | None = None

    def look(self) -> Stop | None:
        """The request, or None. A store that does not answer now is asked again at the next look."""
        if self._seen is None and time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_SECONDS
            try:
                self._seen = requested(self._record)
            except VisionloopError as error:
                LOGGER.info("whether the run is to stop is not known now: %s", error.sentence)
        return self._seen
