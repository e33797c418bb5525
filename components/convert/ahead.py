"""Looks ahead from convert for existing results of the expensive stages, so that no pod with a GPU starts for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from visionloop.components.calls import CALLS, SETTINGS
from visionloop.core import lookup
from visionloop.core.pairs import parse_pairs
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation
from visionloop.core.stage import Outcome
from visionloop.training.configuration import merge_settings

#: The stage whose pod looks ahead.
LOOKS_AHEAD = "convert"

#: What ``look_ahead`` returns: the stage that has to run next, and what it found, each "" where there is nothing.
FINDS = ("next", "training_receipt", "evaluation_receipt", "verdict", "reason", "evaluation_metrics")

#: ``next`` when there is an evaluation whose verdict is to reject.
NOTHING = "nothing"

#: The pipeline's parameters that determine the results of the expensive stages.
LOOKED_FOR = (SETTINGS, "model_name", "gate", "slices", "costs")


def look_ahead(
    outcome: Outcome, snapshot: str, ahead: Sequence[str], invocation: Invocation, forced: Sequence[str] = ()
) -> dict[str, str]:
    """Returns the results that train and evaluate would find.

    Args:
        outcome: The finished convert.
        snapshot: URI of the snapshot's receipt.
        ahead: ``KEY=VALUE`` pairs: ``settings`` as train takes it, ``model_name``, ``gate``, ``slices`` and ``costs`` as evaluate does. Pipelines
            compiled before there was ``settings`` give each setting as a pair of its own; empty pairs are skipped.
        invocation: How convert was called.
        forced: Stages that compute again even if a result exists.

    Returns:
        FINDS by name; ``next`` is train, evaluate, register or NOTHING. What was found is recorded in the run as reused,
        because its stage will not start.

    Raises:
        InvalidConfig: If a pair or ``settings`` can't be read, or a name is given twice.
    """
    finds = dict.fromkeys(FINDS, "") | {"next": "train"}
    if outcome.result is None:
        return finds
    values = parse_pairs("--ahead", filter(None, ahead))
    parameters = {name: value for name, value in values.items() if name in LOOKED_FOR}
    pairs = [f"{name}={value}" for name, value in values.items() if name not in LOOKED_FOR]
    parameters[SETTINGS] = json.dumps(merge_settings(pairs, parameters.get(SETTINGS)))
    receipts = {"snapshot": snapshot, "convert": outcome.result.uri}
    training = _find("train", parameters, receipts, invocation, forced)
    if training is None:
        return finds
    finds |= {"next": "evaluate", "training_receipt": training.uri}
    if not parameters.get("model_name"):
        return finds
    evaluation = _find("evaluate", parameters, receipts | {"train": training.uri}, invocation, forced)
    if evaluation is not None:
        verdict = str(evaluation.receipt.scalars.get("verdict") or "")
        left = NOTHING if verdict == CALLS["register"].condition.value else "register"
        finds |= {
            "next": left,
            "evaluation_receipt": evaluation.uri,
            "verdict": verdict,
            "reason": str(evaluation.receipt.scalars.get("reason") or ""),
            "evaluation_metrics": json.dumps(evaluation.receipt.metrics),
        }
    return finds


def _find(
    stage: str,
    parameters: dict[str, str],
    receipts: dict[str, str],
    invocation: Invocation,
    forced: Sequence[str],
) -> Result | None:
    if stage in forced:
        return None
    return lookup.find(stage, CALLS[stage].arguments(parameters, receipts), invocation)
