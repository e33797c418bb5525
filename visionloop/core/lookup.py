"""Looking for a result without running anything: what ``plan`` and a stage before an expensive one ask."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from visionloop.core import catalog, live, receipts, runs
from visionloop.core.errors import InvalidConfig, NotFound, VisionloopError
from visionloop.core.limits import Limits
from visionloop.core.logs import LOGGER
from visionloop.core.receipts import Found
from visionloop.core.running import Invocation, make_arguments
from visionloop.core.stage import Context, Outcome, key_of
from visionloop.core.storage import open_prefix

#: The stage whose pod looks for the results of the expensive ones after it.
LOOKS_AHEAD = "convert"

#: What ``look_ahead`` tells: the stage that has to run next, and what it found, each "" where there is nothing.
FINDS = ("next", "training_receipt", "evaluation_receipt", "verdict")

#: ``next`` when an evaluation is there and its verdict is to reject.
NOTHING = "nothing"

#: What ``look_ahead`` is told that is no setting of the training.
_EVALUATION_ARGUMENTS = ("model_name", "gate")


def look_up(stage: str, given: Mapping[str, Any], context: Context) -> Found | None:
    """The receipt that a stage would end with at once, found by the key that the stage itself makes; else None.

    Args:
        stage: The stage's name.
        given: Its arguments by name.
        context: Where it would run; nothing is written there.

    Raises:
        VisionloopError: As the stage would for these arguments and inputs.
    """
    return _look_up(stage, given, context)[0]


def _look_up(stage: str, given: Mapping[str, Any], context: Context) -> tuple[Found | None, Mapping[str, Any]]:
    """The receipt, and the scalars of this run alone that stand beside it."""
    found_stage = catalog.stage(stage)
    resolution = found_stage.resolve(context, make_arguments(found_stage, given))
    found = resolution.existing
    if found is None:
        found = receipts.look(context.workspace, stage, key_of(found_stage, resolution))
    return found if found is not None and found.intact() else None, resolution.beside


def look_ahead(
    outcome: Outcome, snapshot: str, ahead: Sequence[str], invocation: Invocation, forced: Sequence[str] = ()
) -> dict[str, str]:
    """What train and evaluate would find, seen from the stage before them, so that no pod with a GPU starts for nothing.

    A look that fails is no find: the stage itself tells what is wrong, in a pod that has what it needs (weights that lie in
    the trainer's image, a trainer that only that image holds).

    Args:
        outcome: The finished convert.
        snapshot: URI of the snapshot's receipt.
        ahead: ``KEY=VALUE`` pairs: ``model_name`` and ``gate`` for evaluate, all others as train's ``set``; empty pairs
            are skipped.
        invocation: How the stage before was called.
        forced: Stages that compute again whatever there is.

    Returns:
        FINDS by name; ``next`` is train, evaluate, register or NOTHING. What was found is recorded in the run as reused, for its stage will not start.
    """
    finds = dict.fromkeys(FINDS, "") | {"next": "train"}
    if outcome.found is None:
        return finds
    told = _pairs(ahead)
    train = {
        "converted": outcome.found.uri,
        "snapshot": snapshot,
        "set": [f"{name}={value}" for name, value in told.items() if name not in _EVALUATION_ARGUMENTS],
        "model_name": told.get("model_name"),
    }
    training = _find("train", train, invocation, forced)
    if training is None:
        return finds
    finds |= {"next": "evaluate", "training_receipt": training.uri}
    if not told.get("model_name"):
        return finds
    evaluate = {
        "training": training.uri,
        "snapshot": snapshot,
        "model_name": told["model_name"],
        "gate": told.get("gate"),
    }
    evaluation = _find("evaluate", evaluate, invocation, forced)
    if evaluation is not None:
        verdict = str(evaluation.receipt.scalars.get("verdict") or "")
        left = NOTHING if verdict == "reject" else "register"
        finds |= {"next": left, "evaluation_receipt": evaluation.uri, "verdict": verdict}
    return finds


def _pairs(ahead: Sequence[str]) -> dict[str, str]:
    told: dict[str, str] = {}
    for pair in ahead:
        name, found, value = pair.partition("=")
        if not pair:
            continue
        if not found or not name:
            raise InvalidConfig(f"--ahead {pair}: give KEY=VALUE, such as epochs=20.")
        if name in told:
            raise InvalidConfig(f"--ahead {name} is given twice; give it once.")
        told[name] = value
    return told


def _find(stage: str, given: Mapping[str, Any], invocation: Invocation, forced: Sequence[str]) -> Found | None:
    if stage in forced:
        return None
    try:
        context = _context(stage, invocation)
        found, beside = _look_up(stage, given, context)
    except (VisionloopError, NotFound) as error:
        LOGGER.info("looking ahead for %s found nothing: %s", stage, error)
        return None
    except Exception as error:  # noqa: BLE001 - a third party's stage that can't be read here may run elsewhere
        LOGGER.info("looking ahead for %s found nothing: %s: %s", stage, type(error).__name__, error)
        return None
    if found is not None and context.run.read() is not None:
        state = context.run.state(stage)
        state.state, state.reused, state.key, state.receipt = "succeeded", True, found.receipt.key, found.uri
        state.scalars = {**found.receipt.scalars, **beside}
        state.started_at = state.started_at or runs.now()
        with contextlib.suppress(VisionloopError):
            context.run.write_state(state)
        live.emit("stage", stage=stage, state="succeeded", reused=True, seconds=0.0)
    return found


def _context(stage: str, invocation: Invocation) -> Context:
    policy = catalog.stage(stage).policy
    workspace = open_prefix(invocation.workspace, "results")
    record = runs.RunRecord(workspace, runs.run_name(invocation.run))
    return Context(
        workspace, record, invocation.trace_id or "", Limits(stage, policy.timeout, 0.0), policy, planning=True
    )
