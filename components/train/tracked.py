"""A training's run in the tracker: one MLflow run for a key, however many attempts it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.names import sanitise
from visionloop.core.stage import Attempt, Context, Resolution
from visionloop.training.tracking import open_tracker

if TYPE_CHECKING:
    from visionloop.components.train.stage import Loaded

#: In the key's folder: which run of which tracker this key's training is logged to.
FILE = "tracking.json"


class TrackedTraining:
    """Logs a training to its tracker; a later attempt at the same key continues the same run."""

    def __init__(self, context: Context, resolution: Resolution, attempt: Attempt, loaded: Loaded) -> None:
        """Opens the tracker's run, or the one that an earlier attempt opened."""
        self._prefix = attempt.key_prefix
        arguments = loaded.arguments
        experiment = sanitise(arguments.model_name) if arguments.model_name else "visionloop"
        recorded = _recorded_run_id(self._read())
        # KFP 2.17 may have made a run for this task already.
        run_id = recorded or os.environ.get("MLFLOW_RUN_ID")
        self._tracker = open_tracker(os.environ, experiment, workspace=context.workspace.uri, run_id=run_id)
        tags = {
            "visionloop.run": context.run.name,
            "visionloop.trace_id": context.trace_id,
            "visionloop.snapshot_id": loaded.snapshot.id,
            "visionloop.training_key": attempt.key_prefix.uri.rsplit("/", 1)[-1],
        }
        for name, reference in resolution.inputs.items():
            tags[f"visionloop.receipt.{name}"] = reference.receipt or ""
        if arguments.description:
            tags["mlflow.note.content"] = arguments.description
        self._tracker.start(
            arguments.run_name or context.run.name,
            {name: parameter.value for name, parameter in resolution.parameters.items()},
            tags,
            loaded.snapshot.identity.dataset_hash,
            loaded.snapshot.dataset,
        )
        if self._tracker.run_id and self._tracker.run_id != recorded:
            self._write()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs a finished epoch."""
        self._tracker.log_epoch(epoch, metrics)

    def finish(self, status: str, metrics: Mapping[str, float]) -> None:
        """Ends the run."""
        self._tracker.finish(status, metrics)

    def record(self) -> dict[str, Any] | str:
        """Returns what the receipt says about the run."""
        return self._tracker.record()

    def _read(self) -> dict[str, Any]:
        try:
            value = msgspec.json.decode(self._prefix.read(FILE))
        except (NotFound, msgspec.MsgspecError):
            return {}
        return value if isinstance(value, dict) else {}

    def _write(self) -> None:
        record = self._tracker.record()
        if isinstance(record, dict):
            try:
                self._prefix.write(FILE, msgspec.json.encode(record))
            except VisionloopError as error:
                LOGGER.warning("the tracker's run is not remembered (%s)", error.sentence)


def _recorded_run_id(record: Mapping[str, Any]) -> str | None:
    entry = record.get("mlflow")
    run_id = entry.get("run_id") if isinstance(entry, dict) else None
    return run_id if isinstance(run_id, str) else None
