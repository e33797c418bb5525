"""Whether a run did what it was started for: a receipt proves success, an engine's status does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.receipts import load
from visionloop.core.runs import Run, StageState
from visionloop.core.storage import Prefix
from visionloop.pipelines.warned import warnings_of


def completed(stages: Mapping[str, StageState]) -> bool:
    """Whether a run registered its model, rejected it, or decided that there is nothing to train."""
    register = stages.get("register")
    return bool(register and register.state == "succeeded" and register.receipt) or bool(why_without_version(stages))


def why_without_version(stages: Mapping[str, StageState]) -> str | None:
    """Why a successful run registered nothing; None if no stage gives a reason."""
    snapshot, evaluate = stages.get("snapshot"), stages.get("evaluate")
    if evaluate and evaluate.state == "succeeded" and evaluate.scalars.get("verdict") == "reject":
        return "the model is below the gate's floor"
    if snapshot and snapshot.state == "succeeded" and str(snapshot.scalars.get("go", True)).lower() == "false":
        return str(snapshot.scalars.get("reason") or "the retraining policy sees no need")
    return None


@dataclass(frozen=True)
class RunResult:
    """The result of a successful run."""

    run: Run
    stages: dict[str, StageState]
    seconds: float
    workspace: Prefix

    def summary(self) -> dict[str, Any]:
        """The JSON object that ends stdout (docs/contract.md, "Commands")."""
        evaluate, register = self.stages.get("evaluate"), self.stages.get("register")
        registered = register.scalars if register else {}
        return {
            "run": self.run.run,
            "trace_id": self.run.trace_id,
            "model_name": registered.get("model_name") or self.run.arguments.get("model_name"),
            "version": registered.get("version"),
            "alias": registered.get("alias"),
            "verdict": evaluate.scalars.get("verdict") if evaluate else None,
            "metrics": load(evaluate.receipt, "evaluate").receipt.metrics if evaluate and evaluate.receipt else {},
            "seconds": round(self.seconds, 3),
            "warnings": warnings_of(self.stages),
            "stages": {
                name: {
                    "key": state.key,
                    "receipt": state.receipt,
                    "reused": bool(state.reused),
                    "seconds": state.seconds,
                }
                for name, state in self.stages.items()
            },
        }
