"""A training's run in the tracker: one MLflow run for a key, however many attempts it takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core import receipts, texts
from visionloop.core.errors import VisionloopError
from visionloop.core.names import sanitise
from visionloop.core.stage import Attempt, Context
from visionloop.training.configuration.settings import display
from visionloop.training.tracking import open_tracker, record

if TYPE_CHECKING:
    from visionloop.components.train.stage import Loaded


class TrackedTraining:
    """Logs a training to its tracker; a later attempt at the same key continues the same run."""

    def __init__(self, context: Context, attempt: Attempt, loaded: Loaded) -> None:
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
            "visionloop.dataset": ", ".join(dataset.uri for dataset in loaded.snapshot.datasets),
            "visionloop.snapshot_id": loaded.snapshot.id,
            "visionloop.task": loaded.converted.task,
            "visionloop.training_key": attempt.key_prefix.uri.rsplit("/", 1)[-1],
        }
        if arguments.model_name:
            tags["visionloop.model_name"] = arguments.model_name
        if arguments.description:
            tags["mlflow.note.content"] = texts.outgoing(arguments.description)
        self._tracker.start(
            texts.sentence(arguments.run_name or context.run.name),
            {name: display(value) for name, value in loaded.config.values.items()},
            tags,
            loaded.snapshot.identity.dataset_hash,
            *(dataset.uri for dataset in loaded.snapshot.datasets),
        )
        self._remember()

    def log_epoch(self, epoch: int, train: Mapping[str, float], val: Mapping[str, float]) -> None:
        """Logs a finished epoch: its metrics as ``train/…`` and ``val/…``."""
        self._tracker.log_epoch(epoch, _measured(train, val))
        self._remember()

    def complete(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Logs every epoch that the tracker lacks: one that was durable when its process was killed was not logged."""
        self._tracker.log_epochs(
            {
                entry["epoch"]: _measured(entry.get("train_metrics", {}), entry.get("val_metrics", {}))
                for entry in history
            }
        )
        self._remember()

    def finish(self, status: str) -> None:
        """Ends the run."""
        if self._tracker.finish(status):
            self._remember(status)

    def attach(self, plots: Sequence[str], loaded: Loaded) -> None:
        """Puts the plots, and the page of the dataset's check, on the run's page."""
        if self._tracker.run_id is None:
            return
        files: dict[str, Path | bytes] = {f"plots/{Path(plot).name}": Path(plot) for plot in plots}
        with contextlib.suppress(VisionloopError):  # validate's result may be gone
            report = receipts.load(loaded.converted.result.receipt.inputs["report"].receipt or "", "validate")
            files["reports/validate.html"] = report.read("page")
        self._tracker.attach(files)

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


def _measured(train: Mapping[str, float], val: Mapping[str, float]) -> dict[str, float]:
    """An epoch's metrics by the tracker's names."""
    measured = {f"train/{name}": value for name, value in train.items()}
    return measured | {f"val/{name.removeprefix('val_')}": value for name, value in val.items()}
