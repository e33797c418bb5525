"""What a stage tells while it goes on: its start, the lines of its log, and its end."""

from __future__ import annotations

import abc
import os
import socket
from collections.abc import Mapping
from typing import Any, ClassVar

from visionloop.core import texts
from visionloop.core.errors import RETRYABLE
from visionloop.core.logs import LOGGER
from visionloop.core.receipts import Result
from visionloop.core.runs import Failure
from visionloop.core.stage import Context, Outcome
from visionloop.training.driver import first_gpu
from visionloop.training.events.lines import Lines
from visionloop.training.events.payloads import About, Begun, Family, GpuInfo
from visionloop.training.events.publisher import Publisher
from visionloop.training.events.receivers import receivers


class StageEvents(abc.ABC):
    """Tells of one call of a stage. Nothing is sent, and no thread started, where no receiver is named.

    Attributes:
        family: The events that the stage tells.
        work: What the stage does, for a line of the log.
    """

    family: ClassVar[Family]
    work: ClassVar[str]

    def __init__(self, context: Context, environment: Mapping[str, str]) -> None:
        """Reads who is told. Raises InvalidConfig if the variables can't be used."""
        self._context, self._environment = context, environment
        self._receivers = receivers(environment, context.run.name)
        self._publisher: Publisher | None = None
        self._lines: Lines | None = None

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._receivers)

    def ended(self, end: Outcome | Failure) -> Mapping[str, int]:
        """Tells the end: that it is complete, or a failure that no engine retries. Returns how many events there were.

        A result that was there already, or that another run made, is told by its completion alone.
        """
        if not self._receivers:
            return {}
        try:
            if self._lines is not None:
                LOGGER.removeHandler(self._lines)
            publisher = self._publisher or self._make_publisher("")
            if isinstance(end, Failure):
                if end.exit_code not in RETRYABLE:
                    publisher.tell(self._failed(end))
            elif end.result is not None:
                reused = end.result.receipt.attempt not in self._context.attempts
                publisher.tell(self._completed(end.result, end.scalars, reused=reused))
            return publisher.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the stage's own end counts
            why = texts.sentence(f"{type(error).__name__}: {error}")
            LOGGER.warning("the %s's end could not be told: %s", self.work, why)
            return {}

    @abc.abstractmethod
    def _failed(self, failure: Failure) -> About:
        """What is told of a failure."""

    @abc.abstractmethod
    def _completed(self, result: Result, scalars: Mapping[str, Any], *, reused: bool) -> About:
        """What is told of a result, with its scalars in this run."""

    def _start(self, attempt: str, kind: type[Begun], device: object = None, **fields: object) -> None:
        """Tells that an attempt has begun; from here on the lines of the log are told too.

        Args:
            attempt: The attempt's name.
            kind: The event that tells it.
            device: The setting; None for the first GPU.
            fields: What the event says besides.
        """
        if not self.listens:
            return
        self._publisher = publisher = self._make_publisher(attempt)
        gpu = first_gpu(device, self._environment)
        about: dict[str, Any] = {**publisher.about, **fields}
        gpu_info = GpuInfo(*gpu) if gpu else None
        publisher.tell(kind(pid=os.getpid(), hostname=socket.gethostname(), gpu_info=gpu_info, **about))
        self._lines = Lines(publisher)
        LOGGER.addHandler(self._lines)

    def _make_publisher(self, attempt: str) -> Publisher:
        context = self._context
        return Publisher(self._receivers, context.run.name, context.trace_id, attempt, self.family)
