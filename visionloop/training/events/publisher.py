"""Tells the receivers what a training does: ids by which they drop repeats, lines of the log in batches, everything in order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

import msgspec

from visionloop.core import secrets
from visionloop.core.errors import shortened
from visionloop.core.logs import notice, utc
from visionloop.training.events.outbox import Outbox
from visionloop.training.events.payloads import (
    TRAINING,
    About,
    Checkpoint,
    CloudEvent,
    Family,
    Log,
    LogLine,
    Metrics,
    Progress,
)
from visionloop.training.events.receivers import Receiver

#: Lines of the log that are sent together at most, the characters in them, and the seconds that a line waits at most.
MOST_LINES = 50
MOST_CHARACTERS = 32_000
LOG_SECONDS = 5.0

#: The most characters of a line.
LONGEST_LINE = 4000

#: Seconds for which the end of a stage waits for what is still to be sent.
END_SECONDS = 10.0


class Publisher:
    """Sends the events of one stage's call to all receivers. No method raises, and none but ``close`` waits."""

    def __init__(
        self, receivers: Sequence[Receiver], run: str, trace_id: str, attempt: str = "", family: Family = TRAINING
    ) -> None:
        """Nothing is sent yet.

        Args:
            receivers: Who is told.
            run: The run's name.
            trace_id: Its trace id.
            attempt: The attempt at the key, in the ids of what belongs to an attempt alone.
            family: The events that it sends.
        """
        self.run, self.trace_id = run, trace_id
        self._attempt, self._family = attempt, family
        self._outboxes = [Outbox(receiver) for receiver in receivers if family.bare or not receiver.bare]
        self._lock = threading.RLock()
        self._numbers: dict[str, int] = {}
        self._lines: list[LogLine] = []
        self._timer: threading.Timer | None = None
        self._lost = 0

    @property
    def about(self) -> dict[str, str]:
        """What every event says."""
        return {"job_id": self.run, "trace_id": self.trace_id}

    def tell(self, data: About) -> None:
        """Tells one event."""
        self._send(data)

    def epoch(self, events: Sequence[Progress | Metrics | Checkpoint], *, last: bool) -> None:
        """Tells of one epoch; ``last`` is whether no other follows."""
        for data in events:
            self._send(data, (data.epoch, last))

    def log(self, line: LogLine) -> None:
        """Tells a line of the log: with others, an error at once."""
        with self._lock:
            self._lines.append(msgspec.structs.replace(line, message=shortened(line.message, LONGEST_LINE)))
            size = sum(len(entry.message) for entry in self._lines)
            if line.level == "ERROR" or len(self._lines) >= MOST_LINES or size >= MOST_CHARACTERS:
                self.flush()
            elif self._timer is None:
                timer = threading.Timer(LOG_SECONDS, self.flush)
                timer.daemon = True
                with contextlib.suppress(RuntimeError):  # no thread is to be had: the next line tries again
                    timer.start()
                    self._timer = timer

    def flush(self) -> None:
        """Sends the lines that wait."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._lines:
                lines, self._lines = self._lines, []
                self._hand_over(Log(**self.about, logs=lines))

    def close(self) -> dict[str, int]:
        """Waits ``END_SECONDS`` at most for what is still to be sent, and tells how it went.

        Returns:
            The number of events that were ``sent`` and ``dropped``, over all receivers.
        """
        until = time.monotonic() + END_SECONDS
        self.flush()
        for outbox in self._outboxes:
            outbox.close(until)
        if self._lost:
            notice(f"events: {self._lost} dropped, because they could not be written as JSON or handed over")
        for outbox in self._outboxes:
            why = f" ({outbox.problem})" if outbox.problem and outbox.dropped else ""
            notice(f"events to {outbox.receiver.variable}: {outbox.sent} sent, {outbox.dropped} dropped{why}")
        return {
            "sent": sum(outbox.sent for outbox in self._outboxes),
            "dropped": sum(outbox.dropped for outbox in self._outboxes) + self._lost,
        }

    def _send(self, data: About, epoch: tuple[int, bool] | None = None) -> None:
        with self._lock:
            self.flush()  # what was told before arrives before
            self._hand_over(data, epoch)

    def _hand_over(self, data: About, epoch: tuple[int, bool] | None = None) -> None:
        """Gives an event to each receiver's outbox; one that JSON can't hold, or no thread can send, counts as dropped.

        Args:
            data: What it says.
            epoch: The epoch that it is of, and whether that is the last one: not every receiver is told of each.
        """
        family = self._family
        kind = family.kind_of(data)
        self._numbers[kind] = number = self._numbers.get(kind, 0) + 1
        try:
            event: CloudEvent[object] = CloudEvent(
                specversion="1.0",
                id=family.identity(data, self._attempt, number),
                source=f"/runs/{self.run}/{family.stage}",
                type=f"{family.prefix}{kind}",
                time=utc(time.time()),
                datacontenttype="application/json",
                data=secrets.redact_fields(msgspec.to_builtins(data, enc_hook=str)),
            )
            for outbox in self._outboxes:
                if epoch is None or outbox.receiver.takes(*epoch):
                    outbox.put(kind, event.id, outbox.receiver.body(event))
        except (TypeError, ValueError, RuntimeError):
            # Not logged here: a line of the log would wait for this lock.
            self._lost += len(self._outboxes)
