"""The protocol of a tracker, the choice of one, and the wrapper that keeps a tracker's failures from the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from visionloop.core.logs import LOGGER, notice
from visionloop.core.receipts import NOT_TRACKED
from visionloop.training.tracking.connection import describe, tracking_uri

#: Epochs whose metrics are kept while the tracker is down; older ones are dropped.
KEPT_EPOCHS = 10_000


class Tracker(Protocol):
    """One training's run in a tracker."""

    @property
    def run_id(self) -> str | None:
        """The tracker's id of the run; None before ``start`` or if nothing is tracked."""

    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], dataset_hash: str, *dataset_uris: str
    ) -> None:
        """Opens a run, or resumes the one passed to ``open_tracker``.

        Args:
            name: The run's name for people.
            params: The resolved configuration.
            tags: Receipts' URIs, trace id, snapshot id …, by name.
            dataset_hash: The SHA-256 of what is trained on, 64 hex digits.
            dataset_uris: The dataset's URI; of several each one's.
        """

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs a finished epoch (1-based) by the metric names of docs/contract.md; one that was logged before stays unchanged."""

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs several finished epochs, as ``log_epoch`` does each."""

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files on the run's page, by their paths there (``plots/results.png``)."""

    def finish(self, status: str) -> bool:
        """Ends the run. ``status`` is a state of ``runs`` (succeeded, failed, cancelled) or MLflow's own.

        Returns:
            Whether the tracker has it.
        """

    def record(self) -> dict[str, Any] | str:
        """A receipt's record of the run: ``{backend: {"run_id", "url"}}`` or ``not tracked``."""


class NullTracker:
    """Tracks nothing."""

    run_id: str | None = None

    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], dataset_hash: str, *dataset_uris: str
    ) -> None:
        """Does nothing."""

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Does nothing."""

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Does nothing."""

    def finish(self, status: str) -> bool:
        """Does nothing."""
        return False

    def record(self) -> dict[str, Any] | str:
        """Always ``not tracked``."""
        return NOT_TRACKED


class CarefulTracker:
    """Forwards every call to a tracker, and turns any failure into one log line.

    A tracker that is down for a while loses nothing: what could not be logged is sent again with the next epoch.
    """

    def __init__(self, tracker: Tracker) -> None:
        """``tracker`` may raise any exception."""
        self._tracker = tracker
        self._waiting: dict[int, dict[str, float]] = {}
        self._begin: Callable[[], None] | None = None
        self._failed = False

    @property
    def run_id(self) -> str | None:
        """The tracker's id of the run."""
        return self._tracker.run_id

    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], dataset_hash: str, *dataset_uris: str
    ) -> None:
        """Opens the run; logs ``tracked`` or ``tracking failed``."""
        self._begin = lambda: self._tracker.start(name, params, tags, dataset_hash, *dataset_uris)
        self._offer()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the epoch, after those that are still waiting."""
        self.log_epochs({epoch: metrics})

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs the epochs, after those that are still waiting; a tracker that does not answer is waited for once, not for each."""
        self._waiting |= {epoch: dict(metrics) for epoch, metrics in epochs.items()}
        self._offer()
        while len(self._waiting) > KEPT_EPOCHS:
            del self._waiting[next(iter(self._waiting))]

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files on the run's page, if the run could be opened; files that fail leave the metrics as they are."""
        if self._begin is not None:
            return
        try:
            self._tracker.attach(files)
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the training goes on
            notice(f"left out of the tracker's page: {', '.join(files)} ({describe(error)})")

    def finish(self, status: str) -> bool:
        """Logs everything that is waiting and ends the run. Returns whether the tracker has it."""
        return self._offer() and self._careful(lambda: self._tracker.finish(status))

    def record(self) -> dict[str, Any] | str:
        """The tracker's own record; ``not tracked`` if its run could not be opened."""
        return self._tracker.record() if self.run_id else NOT_TRACKED

    def _offer(self) -> bool:
        """Opens the run if that has not succeeded yet, and logs what is waiting. Returns whether all of it was logged."""
        if self._begin is not None:
            if not self._careful(self._begin):
                return False
            self._begin = None
            notice(f"tracked: {describe_record(self._tracker.record())}")
        for epoch in list(self._waiting):
            metrics = self._waiting[epoch]
            if not self._careful(lambda epoch=epoch, metrics=metrics: self._tracker.log_epoch(epoch, metrics)):  # type: ignore[misc]
                return False
            del self._waiting[epoch]
        return True

    def _careful(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the training goes on
            if not self._failed:
                LOGGER.warning("tracking failed: %s", describe(error))
            self._failed = True
            return False
        self._failed = False
        return True


def open_tracker(
    environment: Mapping[str, str], experiment: str, *, workspace: str, run_id: str | None = None
) -> Tracker:
    """The tracker of this environment; it connects to nothing before ``start``.

    Args:
        environment: The process's variables: MLFLOW_TRACKING_URI turns MLflow on, MLFLOW_ENABLED=false and an
            OBSERVABILITY_BACKENDS without mlflow turn it off.
        experiment: The experiment's name, unless MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME says otherwise.
        workspace: The results' URI: a new experiment's artifacts lie under ``{workspace}/mlflow``.
        run_id: The run that an earlier attempt opened, to be resumed.
    """
    why = _off(environment)
    if why:
        notice(f"not tracked: {why}")
        return NullTracker()
    from visionloop.training.tracking.mlflow_tracker import MlflowTracker

    return CarefulTracker(MlflowTracker(environment, experiment, workspace, run_id))


def describe_record(record: dict[str, Any] | str) -> str:
    """A tracker's record in a few words."""
    if isinstance(record, str):
        return record
    return ", ".join(
        f"{backend} run {entry['run_id']}" + (f" at {entry['url']}" if entry.get("url") else "")
        for backend, entry in record.items()
    )


def _off(environment: Mapping[str, str]) -> str | None:
    """Why nothing is tracked, or None if tracking is on."""
    if not tracking_uri(environment):
        return "MLFLOW_TRACKING_URI is not set."
    if environment.get("MLFLOW_ENABLED", "true").strip().lower() in ("false", "0", "no", "off"):
        return "MLFLOW_ENABLED is false."
    backends = [name.strip().lower() for name in environment.get("OBSERVABILITY_BACKENDS", "mlflow").split(",")]
    if "mlflow" not in backends:
        return "OBSERVABILITY_BACKENDS does not name mlflow."
    return None
