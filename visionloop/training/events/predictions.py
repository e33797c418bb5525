"""What the events of a prediction say; docs/predictions.schema.json is written from these types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from visionloop.core.receipts import Result
from visionloop.core.runs import Failure, RunRecord
from visionloop.training.events import endings
from visionloop.training.events.payloads import About, Begun, Family, Log, RunFailed


class PredictionStarted(Begun, frozen=True, kw_only=True):
    """An attempt at a prediction has begun.

    Attributes:
        operation_type: What has begun.
        model: The model, ``NAME/VERSION``.
        images_uri: Where the images lie.
        total_images: How many there are.
    """

    operation_type: Literal["prediction"]
    model: str
    images_uri: str
    total_images: int


class PredictionProgress(About, frozen=True, kw_only=True):
    """A shard is done, and durable.

    Attributes:
        status: The state of the prediction.
        shard: The shard, from 1.
        total_shards: How many there are.
        images: Images that are done, those of earlier attempts and those that can't be read among them.
        total_images: How many there are.
        images_per_second: The pace of this attempt; null where every shard so far was there already.
        eta_seconds: Seconds that the images left will take at this pace; null where it is not known.
    """

    status: Literal["running"]
    shard: int
    total_shards: int
    images: int
    total_images: int
    images_per_second: float | None
    eta_seconds: int | None


class PredictionCompleted(About, frozen=True, kw_only=True):
    """The prediction is complete: its receipt is there.

    Attributes:
        status: The state of the prediction.
        reused: Whether it was there already, or another run made it.
        model: The model, ``NAME/VERSION``.
        images_uri: Where the images lie.
        images: Images that were predicted on.
        objects: What was found; of a classifier images with classes.
        unreadable: Images that can't be read.
        receipt: The URI of its receipt.
        results: The URI of the folder of its tables.
    """

    status: Literal["completed"]
    reused: bool
    model: str
    images_uri: str
    images: int
    objects: int
    unreadable: int
    receipt: str
    results: str


class PredictionFailed(RunFailed, frozen=True, kw_only=True):
    """The run has failed before its prediction was complete; the shards that are done stay."""


class PredictionStopped(About, frozen=True, kw_only=True):
    """A person has stopped the run before its prediction was complete; the shards that are done stay.

    Attributes:
        status: The state of the prediction.
    """

    status: Literal["stopped"]


#: The events of a prediction.
PREDICTION = Family(
    stage="predict",
    prefix="visionloop.predict.",
    kinds={
        "started": PredictionStarted,
        "progress": PredictionProgress,
        "log": Log,
        "completed": PredictionCompleted,
        "failed": PredictionFailed,
        "stopped": PredictionStopped,
    },
    places={"started": ".{attempt}.{n}", "progress": ".{shard}", "log": ".{attempt}.{n}"},
)


def completed(
    run: RunRecord, trace_id: str, result: Result, scalars: Mapping[str, Any], *, reused: bool
) -> PredictionCompleted:
    """That a prediction is complete.

    Args:
        run: The run's record.
        trace_id: Its trace id.
        result: The prediction's receipt.
        scalars: Its scalars in this run.
        reused: Whether it was there already, or another run made it.
    """
    return PredictionCompleted(
        job_id=run.name,
        trace_id=trace_id,
        status="completed",
        reused=reused,
        **{name: scalars[name] for name in ("model", "images_uri", "images", "objects", "unreadable")},
        receipt=result.uri,
        results=f"{result.prefix.uri}/{result.receipt.attempt}",
    )


def ended(run: RunRecord, trace_id: str, failure: Failure) -> PredictionFailed | PredictionStopped:
    """That a run failed, or was stopped by a person, before its prediction was complete."""
    if failure.event == "stopped":
        return PredictionStopped(job_id=run.name, trace_id=trace_id, status="stopped")
    return PredictionFailed(**endings.of_failure(run, trace_id, failure))


def lost(run: RunRecord, trace_id: str, why: str) -> PredictionFailed:
    """That a run failed of which the engine alone says so."""
    return PredictionFailed(**endings.of_lost(run, trace_id, why))
