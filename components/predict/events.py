"""What a prediction tells while it goes on (``visionloop.training.events.predictions``)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from visionloop.core import texts
from visionloop.core.errors import RETRYABLE
from visionloop.core.logs import LOGGER
from visionloop.core.runs import Failure
from visionloop.core.stage import Context, Outcome
from visionloop.training.driver import first_gpu
from visionloop.training.events import GpuInfo, Publisher, receivers
from visionloop.training.events.lines import Lines
from visionloop.training.events.predictions import (
    PREDICTION,
    PredictionProgress,
    PredictionStarted,
    completed,
    ended,
)


class PredictionEvents:
    """Tells of one call of the predict stage. Nothing is sent, and no thread started, where no receiver is named."""

    def __init__(self, context: Context, environment: Mapping[str, str]) -> None:
        """Reads who is told. Raises InvalidConfig if the variables can't be used."""
        self._context, self._environment = context, environment
        self._receivers = receivers(environment, context.run.name)
        self._publisher: Publisher | None = None
        self._lines: Lines | None = None

    def begin(self, attempt: str, model: str, images_uri: str, images: int) -> None:
        """Tells that an attempt has begun; from here on the lines of the log are told too.

        Args:
            attempt: The attempt's name.
            model: The model, ``NAME/VERSION``.
            images_uri: Where the images lie.
            images: How many there are.
        """
        if not self._receivers:
            return
        self._publisher = publisher = self._make_publisher(attempt)
        gpu = first_gpu(None, self._environment)
        publisher.tell(
            PredictionStarted(
                **publisher.about,
                pid=os.getpid(),
                hostname=socket.gethostname(),
                gpu_info=GpuInfo(*gpu) if gpu else None,
                operation_type="prediction",
                model=model,
                images_uri=images_uri,
                total_images=images,
            )
        )
        self._lines = Lines(publisher)
        LOGGER.addHandler(self._lines)

    def shard(self, number: int, shards: int, done: int, images: int, pace: float | None) -> None:
        """Tells of a shard that has become durable.

        Args:
            number: The shard, from 1.
            shards: How many there are.
            done: Images that are done.
            images: How many there are.
            pace: Images a second, where some were predicted on here.
        """
        if self._publisher is None:
            return
        self._publisher.tell(
            PredictionProgress(
                **self._publisher.about,
                status="running",
                shard=number,
                total_shards=shards,
                images=done,
                total_images=images,
                images_per_second=pace,
                eta_seconds=round((images - done) / pace) if pace else None,
            )
        )

    def ended(self, end: Outcome | Failure) -> Mapping[str, int]:
        """Tells the end: that it is complete, or a failure that no engine retries. Returns how many events there were."""
        if not self._receivers:
            return {}
        try:
            if self._lines is not None:
                LOGGER.removeHandler(self._lines)
            publisher = self._publisher or self._make_publisher("")
            run, trace_id = self._context.run, self._context.trace_id
            if isinstance(end, Failure):
                if end.exit_code not in RETRYABLE:
                    publisher.tell(ended(run, trace_id, end))
            elif end.result is not None:
                reused = end.result.receipt.attempt not in self._context.attempts
                publisher.tell(completed(run, trace_id, end.result, end.scalars, reused=reused))
            return publisher.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the prediction's own end counts
            LOGGER.warning(
                "the prediction's end could not be told: %s", texts.sentence(f"{type(error).__name__}: {error}")
            )
            return {}

    def _make_publisher(self, attempt: str) -> Publisher:
        context = self._context
        return Publisher(self._receivers, context.run.name, context.trace_id, attempt, PREDICTION)
