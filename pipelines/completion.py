"""Whether a run did what it was started for: success is the receipt, never an engine's word."""

from __future__ import annotations

from collections.abc import Mapping

from visionloop.core.runs import StageState


def completed(stages: Mapping[str, StageState]) -> bool:
    """Whether a run has registered its model, has rejected it, or has decided that there is nothing to train."""
    register = stages.get("register")
    return bool(register and register.state == "succeeded" and register.receipt) or bool(why_without_version(stages))


def why_without_version(stages: Mapping[str, StageState]) -> str | None:
    """Why a run that ended well has registered nothing; None where nothing says so."""
    snapshot, evaluate = stages.get("snapshot"), stages.get("evaluate")
    if evaluate and evaluate.state == "succeeded" and evaluate.scalars.get("verdict") == "reject":
        return "the model is below the gate's floor"
    if snapshot and snapshot.state == "succeeded" and str(snapshot.scalars.get("go", True)).lower() == "false":
        return str(snapshot.scalars.get("reason") or "the retraining policy sees no need")
    return None
