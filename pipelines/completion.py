"""Whether a run did what it was started for: a receipt proves success, an engine's status does not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.names import sanitise
from visionloop.core.receipts import Receipt, load
from visionloop.core.runs import Run, StageState
from visionloop.core.storage import Prefix
from visionloop.pipelines import services
from visionloop.pipelines.reports import save_reports
from visionloop.pipelines.services import tracking
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.warned import warnings_of
from visionloop.training.stopwatch import of_answers
from visionloop.training.tracking.address import shown
from visionloop.training.tracking.connection import is_server, tracking_uri


def completed(stages: Mapping[str, StageState]) -> bool:
    """Whether a run registered its model, rejected it, decided that there is nothing to train, or predicted."""
    register = stages.get("register")
    return bool(register and register.state == "succeeded" and register.receipt) or bool(why_without_version(stages))


def has_ended(stages: Mapping[str, StageState]) -> bool:
    """Whether a run is over, as its record shows it: cleanup, its last stage, has ended."""
    last = stages.get("cleanup")
    return last is not None and last.state in ("succeeded", "failed")


def outcome(stages: Mapping[str, StageState]) -> str:
    """How a run that is over ended, as people see it: succeeded, failed or cancelled."""
    if completed(stages):
        return "succeeded"
    return "cancelled" if any(state.state == "cancelled" for state in stages.values()) else "failed"


def why_without_version(stages: Mapping[str, StageState]) -> str | None:
    """Why a successful run registered nothing; None if no stage gives a reason."""
    snapshot, evaluate, predict = (stages.get(stage) for stage in ("snapshot", "evaluate", "predict"))
    if predict and predict.state == "succeeded" and predict.receipt:
        return "the model predicted, and nothing was trained"
    if evaluate and evaluate.state == "succeeded" and evaluate.scalars.get("verdict") == "reject":
        return "the model is below the gate's floor"
    if evaluate and evaluate.state == "succeeded" and evaluate.scalars.get("verdict") == "none":
        return "the model was only measured"
    if snapshot and snapshot.state == "succeeded" and str(snapshot.scalars.get("go", True)).lower() == "false":
        return str(snapshot.scalars.get("reason") or "the retraining policy sees no need")
    return None


def registered_name(name: str) -> str | None:
    """The name under which a model is registered; None if it can't be one."""
    with contextlib.suppress(InvalidConfig):
        return sanitise(name)
    return None


def mlflow_address() -> str | None:
    """The address of MLflow's page as far as this machine knows it, else its tracking URI; None without one."""
    uri = tracking_uri(os.environ)
    if is_server(uri):
        return shown(uri)
    connected = services.status().connected
    if connected and connected.page_url and uri in ("", connected.tracking_uri):
        return connected.page_url
    return uri or None


def embedded_database() -> str:
    """The tracking URI of the embedded MLflow, which has a page only while `visionloop up` keeps it running."""
    return tracking.tracking_uri(find_folder(None))


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
        given_name = str(self.run.arguments.get("model_name") or "")
        training = self._training()
        verdict = evaluate.scalars.get("verdict") if evaluate else None
        evaluation = load(evaluate.receipt, "evaluate").receipt if evaluate and evaluate.receipt else None
        return {
            "run": self.run.run,
            "trace_id": self.run.trace_id,
            "model_name": registered.get("model_name") or registered_name(given_name),
            "given_name": given_name,
            "version": registered.get("version"),
            "alias": registered.get("alias"),
            "alias_reason": registered.get("reason"),
            "verdict": verdict,
            "reason": evaluate.scalars.get("reason") if evaluate and verdict else why_without_version(self.stages),
            **_measured(evaluate),
            **_predicted(self.stages.get("predict")),
            **_exported(self.stages.get("export")),
            "metrics": evaluation.metrics if evaluation else {},
            "reports": save_reports(self.run.run, self.stages),
            "mlflow": _page(training) or mlflow_address(),
            "seconds": round(self.seconds, 3),
            "timings": (training.timings if training else {}) | (of_answers(evaluation.timings) if evaluation else {}),
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

    def _training(self) -> Receipt | None:
        """The training's receipt, if there is one that can be read."""
        train = self.stages.get("train")
        if train is None or not train.receipt:
            return None
        with contextlib.suppress(VisionloopError):
            return load(train.receipt, "train").receipt
        return None


def _measured(evaluate: StageState | None) -> dict[str, Any]:
    """What was measured, of a run that measures a model: its label, and the split."""
    scalars = evaluate.scalars if evaluate else {}
    names = ("model", "split", *(["tile"] if "tile" in scalars else []))
    return {"measured": {name: scalars.get(name) for name in names}} if "model" in scalars else {}


def _exported(export: StageState | None) -> dict[str, Any]:
    """What became of each export, of a run that exports its model."""
    exports = export.scalars.get("exports") if export else None
    return {"exports": exports} if exports else {}


def _predicted(predict: StageState | None) -> dict[str, Any]:
    """What was predicted, of a run that predicts: by which model on what, how much, how fast, and where the tables lie."""
    if predict is None or not predict.receipt:
        return {}
    names = ("model", "images_uri", "images", "unreadable", "objects", "shards", "images_per_second")
    result = load(predict.receipt, "predict")
    tables = [result.output_uri(name) for name in result.receipt.outputs if name.startswith("predictions-")]
    scalars = {name: predict.scalars.get(name) for name in names}
    if predict.reused:
        scalars["images_per_second"] = None  # that of the run that made it
    return {"predicted": {**scalars, "results": tables[0].rpartition("/")[0]}}


def _page(training: Receipt | None) -> str | None:
    """The page of the training's run in MLflow, if it was tracked by a server."""
    record = training.tracking if training else None
    return record.get("mlflow", {}).get("url") if isinstance(record, dict) else None
