"""What a prediction tells while it goes on (``visionloop.training.events.predictions``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.core.receipts import Result
from visionloop.core.runs import Failure
from visionloop.training.events import predictions
from visionloop.training.events.payloads import About
from visionloop.training.events.predictions import PREDICTION, PredictionProgress, PredictionStarted
from visionloop.training.events.stage import StageEvents


class PredictionEvents(StageEvents):
    """Tells of one call of the predict stage."""

    family = PREDICTION
    work = "prediction"

    def begin(self, attempt: str, model: str, images_uri: str, images: int) -> None:
        """Tells that an attempt has begun; from here on the lines of the log are told too.

        Args:
            attempt: The attempt's name.
            model: The model, ``NAME/VERSION``.
            images_uri: Where the images lie.
            images: How many there are.
        """
        about = {"operation_type": "prediction", "model": model, "images_uri": images_uri, "total_images": images}
        self._start(attempt, PredictionStarted, **about)

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

    def _failed(self, failure: Failure) -> About:
        return predictions.ended(self._context.run, self._context.trace_id, failure)

    def _completed(self, result: Result, scalars: Mapping[str, Any], *, reused: bool) -> About:
        return predictions.completed(self._context.run, self._context.trace_id, result, scalars, reused=reused)
