"""A training's run in the tracker: one MLflow run for a key, however many attempts it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from visionloop.core import texts
from visionloop.core.names import sanitise
from visionloop.core.stage import Attempt, Context, Resolution
from visionloop.training.tracking import open_tracker, record

if TYPE_CHECKING:
    from visionloop.components.train.stage import Loaded


class TrackedTraining:
    """Logs a training to its tracker; a later attempt at the same key continues the same run."""

    def __init__(self, context: Context, resolution: Resolution, attempt: Attempt, loaded: Loaded) -> None:
        """Opens the tracker's run, or the one that an earlier attempt opened."""
        self._prefix = attempt.key_prefix
        arguments = loaded.arguments
        experiment = sanitise(arguments.model_name) if arguments.model_name else "visionloop"
        self._recorded = record.read(self._prefix)
        # KFP 2.17 may have made a run for this task already.
        run_id = record.run_id(self._recorded) or os.environ.get("MLFLOW_RUN_ID")
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
            tags["mlflow.note.content"] = texts.outgoing(arguments.description)
        self._tracker.start(
            texts.sentence(arguments.run_name or context.run.name),
            {name: parameter.value for name, parameter in resolution.parameters.items()},
            tags,
            loaded.snapshot.identity.dataset_hash,
            loaded.snapshot.dataset,
        )
        self._remember()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs a finished epoch."""
        self._tracker.log_epoch(epoch, metrics)
        self._remember()

    def finish(self, status: str, metrics: Mapping[str, float]) -> None:
        """Ends the run."""
        if self._tracker.finish(status, metrics):
            self._remember(status)

    def record(self) -> dict[str, Any] | str:
        """Returns what the receipt says about the run."""
        return self._tracker.record()

    def _remember(self, ended: str | None = None) -> None:
        """Records the run beside the key, once it is open and when it has ended."""
        runs = self._tracker.record()
        if not isinstance(runs, dict):
            return
        wanted = {**runs, record.ENDED: ended} if ended else runs
        if wanted != self._recorded:
            record.write(self._prefix, wanted)
            self._recorded = wanted
