"""Looks for a stage's result without running the stage."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from visionloop.core import catalog, live, receipts, runs
from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.limits import Limits
from visionloop.core.logs import LOGGER
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, make_arguments
from visionloop.core.stage import Context, key_of
from visionloop.core.storage import open_prefix


def find(stage: str, values: Mapping[str, Any], invocation: Invocation) -> Result | None:
    """Returns the result that a stage would reuse, by the key that the stage itself computes, or None.

    A lookup that fails returns None: the stage itself reports what is wrong, in a pod that has what it needs (weights that lie
    in the trainer's image, a trainer that only that image holds). A result is recorded in the run as reused, because the stage
    will not start.

    Args:
        stage: The stage's name.
        values: The values of its arguments by name.
        invocation: How it would be called; nothing but the run's record is written.
    """
    try:
        loaded_stage = catalog.stage(stage)
        context = _context(stage, invocation)
        resolution = loaded_stage.resolve(context, make_arguments(loaded_stage, values))
        result = resolution.existing
        if result is None:
            result = receipts.look(context.workspace, stage, key_of(loaded_stage, resolution))
        if result is None or not result.intact():
            return None
    except (VisionloopError, NotFound) as error:
        LOGGER.info("looking ahead for %s found nothing: %s", stage, error)
        return None
    except Exception as error:  # noqa: BLE001 - a third party's stage that can't be read here may run elsewhere
        LOGGER.info("looking ahead for %s found nothing: %s: %s", stage, type(error).__name__, error)
        return None
    _record(context, stage, result, resolution.run_scalars)
    return result


def _record(context: Context, stage: str, result: Result, run_scalars: Mapping[str, Any]) -> None:
    """Writes into the run's record, if there is one, that a stage was reused."""
    if context.run.read() is None:
        return
    state = context.run.state(stage)
    state.state, state.reused, state.key, state.receipt = "succeeded", True, result.receipt.key, result.uri
    state.scalars = {**result.receipt.scalars, **run_scalars}
    state.started_at = state.started_at or runs.now()
    with contextlib.suppress(VisionloopError):
        context.run.write_state(state)
    live.emit("stage", stage=stage, state="succeeded", reused=True, seconds=0.0)


def _context(stage: str, invocation: Invocation) -> Context:
    policy = catalog.stage(stage).policy
    workspace = open_prefix(invocation.workspace, "results")
    record = runs.RunRecord(workspace, runs.run_name(invocation.run))
    return Context(
        workspace, record, invocation.trace_id or "", Limits(stage, policy.timeout, 0.0), policy, planning=True
    )
