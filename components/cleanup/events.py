"""What cleanup tells of a training that could not tell its own end, or that no pod was started for; nothing here ever fails a run."""

from __future__ import annotations

import os
from collections.abc import Mapping

from visionloop.components.cleanup.notify import why_lost
from visionloop.core import progress, receipts, texts
from visionloop.core.logs import LOGGER
from visionloop.core.runs import StageState
from visionloop.core.stage import Context
from visionloop.training.events import Publisher, endings, predictions, receivers
from visionloop.training.events.payloads import TRAINING, About
from visionloop.training.events.predictions import PREDICTION


def publish_end(context: Context, engine_status: str | None, engine_failure: str | None) -> None:
    """Tells a run's end to the receivers of its training's events, where train has not done so.

    Args:
        context: Where cleanup runs.
        engine_status: The engine's status of the run at its end.
        engine_failure: What the engine says about the step that failed first.
    """
    try:
        configured = receivers(os.environ, context.run.name)
        if not configured:
            return
        states = {state.stage: state for state in context.run.stages()}
        if "predict" in states:
            family, data = PREDICTION, _end_of_prediction(context, states, engine_status, engine_failure)
        else:
            family, data = TRAINING, _end(context, states, engine_status, engine_failure)
        if data is not None:
            publisher = Publisher(configured, context.run.name, context.trace_id, family=family)
            publisher.tell(data)
            publisher.close()
    except Exception as error:  # noqa: BLE001 - whatever it is, cleanup goes on
        LOGGER.warning("the training's end could not be told: %s", texts.sentence(str(error) or type(error).__name__))


def _end_of_prediction(
    context: Context, states: Mapping[str, StageState], engine_status: str | None, engine_failure: str | None
) -> About | None:
    """What is to be told of a prediction; None where its pod told it."""
    run, trace_id = context.run, context.trace_id
    if states["predict"].state == "succeeded":
        return None
    failures = sorted(run.failures(), key=lambda failure: failure.written_at)
    if failures:
        return predictions.ended(run, trace_id, failures[0])
    why = why_lost(states, engine_status, engine_failure)
    return None if why is None else predictions.lost(run, trace_id, why)


def _end(
    context: Context, states: Mapping[str, StageState], engine_status: str | None, engine_failure: str | None
) -> About | None:
    """What is to be told of a training; None where train told it, or there was no training to tell of."""
    run, trace_id = context.run, context.trace_id
    train = states.get("train") or StageState(stage="train")
    if train.state == "succeeded":
        if train.attempt or not train.receipt:
            return None  # its pod told it
        # convert found it, and no pod was started.
        return endings.completed(run, trace_id, receipts.load(train.receipt, "train", context.workspace), reused=True)
    failures = sorted(run.failures(), key=lambda failure: (failure.stage != "train", failure.written_at))
    if failures:
        return endings.ended(run, trace_id, failures[0])
    why = why_lost(states, engine_status, engine_failure)
    if why is None:
        return None
    earlier = progress.read(context.workspace.child(f"train/{train.key}")) if train.key else None
    return endings.lost(run, trace_id, why, (earlier.epoch or None) if earlier else None)
