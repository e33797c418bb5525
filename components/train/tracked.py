"""A training's runs in its trackers: one run a tracker for a key, however many attempts it takes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core import receipts, texts
from visionloop.core.errors import VisionloopError
from visionloop.core.names import sanitise
from visionloop.core.stage import Attempt, Context
from visionloop.training.configuration.settings import display
from visionloop.training.tracking import Trackers, TrainingDescription, open_trackers, record

if TYPE_CHECKING:
    from visionloop.components.train.loaded import Loaded

#: How long the end of a stage waits for its trackers, in seconds.
END_SECONDS = 30.0


class TrackedTraining:
    """Logs a training to its trackers; a later attempt at the same key continues the same runs."""

    def __init__(self, context: Context, attempt: Attempt, loaded: Loaded, resumed_after: int) -> None:
        """Opens the trackers' runs, or those that an earlier attempt opened.

        Args:
            context: The stage's call.
            attempt: The attempt.
            loaded: What the stage has loaded.
            resumed_after: The epoch whose checkpoint the attempt goes on from; 0 at the beginning.
        """
        self._prefix = attempt.key_prefix
        arguments = loaded.arguments
        self._recorded = record.read(self._prefix)
        self._lock = threading.Lock()
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
        training = TrainingDescription(
            run=context.run.name,
            workspace=context.workspace.uri,
            experiment=sanitise(arguments.model_name) if arguments.model_name else "visionloop",
            name=texts.sentence(arguments.run_name or context.run.name),
            description=texts.outgoing(arguments.description or ""),
            params={name: _value(value) for name, value in loaded.config.values.items()},
            tags=tags,
            dataset_hash=loaded.snapshot.identity.dataset_hash,
            dataset_uris=[dataset.uri for dataset in loaded.snapshot.datasets],
            resumed_after=resumed_after,
        )
        self._trackers = open_trackers(os.environ, training, self._recorded, self._remember)
        self._trackers.start()

    def log_epoch(self, epoch: int, train: Mapping[str, float], val: Mapping[str, float]) -> None:
        """Logs a finished epoch: its metrics as ``train/…`` and ``val/…``. It waits for no tracker."""
        self._trackers.log_epochs({epoch: _measured(train, val)})

    def complete(self, history: Sequence[Mapping[str, Any]], plots: Sequence[str], loaded: Loaded) -> None:
        """Ends the runs of a training that succeeded.

        Every epoch that a tracker lacks is logged: one that was durable when its process was killed was not. The plots, and the
        page of the dataset's check, are put beside the runs.
        """
        self._trackers.finish("succeeded", _epochs(history), self._files(plots, loaded))
        self._trackers.wait(END_SECONDS)

    def log_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Logs every epoch that a tracker lacks."""
        self._trackers.log_epochs(_epochs(history))

    def finish(self, status: str) -> None:
        """Ends the runs of a training that did not succeed."""
        self._trackers.finish(status)
        self._trackers.wait(END_SECONDS)

    def attach(self, plots: Sequence[str], loaded: Loaded) -> None:
        """Puts the plots, and the page of the dataset's check, beside the runs."""
        self._trackers.attach(self._files(plots, loaded))
        self._trackers.wait(END_SECONDS)

    def record(self) -> dict[str, Any] | str:
        """Returns what the receipt says about the runs."""
        return self._trackers.record()

    def _files(self, plots: Sequence[str], loaded: Loaded) -> dict[str, Path | bytes]:
        """The plots, and the page of the dataset's check, by their paths beside a run; none where nothing is tracked."""
        if not self._trackers.names:
            return {}
        files: dict[str, Path | bytes] = {f"plots/{Path(plot).name}": Path(plot) for plot in plots}
        with contextlib.suppress(VisionloopError):  # validate's result may be gone
            report = receipts.load(loaded.converted.result.receipt.inputs["report"].receipt or "", "validate")
            files["reports/validate.html"] = report.read("page")
        return files

    def _remember(self, trackers: Trackers) -> None:
        """Records the runs beside the key, once one is open and when one has ended; those of other trackers stay recorded."""
        with self._lock:
            wanted = {**self._recorded, **trackers.entries()}
            if wanted != self._recorded:
                record.write(self._prefix, wanted)
                self._recorded = wanted


def _value(value: Any) -> bool | int | float | str:
    """A setting's value as trackers take it."""
    return value if isinstance(value, bool | int | float) else display(value)


def _epochs(history: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """The metrics of a history's epochs by the tracker's names."""
    return {
        entry["epoch"]: _measured(entry.get("train_metrics", {}), entry.get("val_metrics", {})) for entry in history
    }


def _measured(train: Mapping[str, float], val: Mapping[str, float]) -> dict[str, float]:
    """An epoch's metrics by the tracker's names."""
    measured = {f"train/{name}": value for name, value in train.items()}
    return measured | {f"val/{name.removeprefix('val_')}": value for name, value in val.items()}
