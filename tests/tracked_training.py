"""A training as its trackers see it, without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionloop.training.tracking import TrainingDescription, open_trackers

HASH = "ab" * 32


class Started:
    """A training that is tracked; each call waits for the trackers."""

    def __init__(
        self, environment: Mapping[str, str], earlier: Mapping[str, Mapping[str, Any]] | None = None, **described: Any
    ) -> None:
        training = TrainingDescription(
            **{
                "run": "run-1",
                "workspace": "s3://results/workspace",
                "experiment": "experiment",
                "name": "run 1",
                "dataset_hash": HASH,
                "dataset_uris": ["s3://datasets/bolts"],
                **described,
            }
        )
        self.trackers = open_trackers(environment, training, earlier)
        self.trackers.start()
        self.wait()

    def wait(self) -> None:
        """Until the trackers are done."""
        assert self.trackers.wait(60)

    @property
    def record(self) -> Any:
        """The receipt's record."""
        return self.trackers.record()

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.record["mlflow"]["run_id"])

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """One epoch."""
        self.log_epochs({epoch: metrics})

    def log_epochs(self, epochs: dict[int, dict[str, float]]) -> None:
        """Several epochs."""
        self.trackers.log_epochs(epochs)
        self.wait()

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Files beside the runs."""
        self.trackers.attach(files)
        self.wait()

    def finish(self, status: str, epochs: dict[int, dict[str, float]] | None = None) -> None:
        """The end."""
        self.trackers.finish(status, epochs)
        self.wait()
