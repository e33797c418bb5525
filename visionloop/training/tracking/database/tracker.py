"""The database's tracker."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.logs import utc
from visionloop.training.configuration.settings import display
from visionloop.training.tracking.database.address import database_url
from visionloop.training.tracking.database.connection import writing
from visionloop.training.tracking.tracker import Tracker, TrackerRun, TrainingDescription

_NEW_RUN = (
    "INSERT INTO visionloop_runs (id, run, experiment, name, description, dataset_hash, status, started_at)"
    " VALUES (:id, :run, :experiment, :name, :description, :dataset_hash, 'running', :now)"
)
_AGAIN = "UPDATE visionloop_runs SET status = 'running', ended_at = NULL WHERE id = :id"
_PARAM = "INSERT INTO visionloop_params (run_id, name, value) VALUES (:id, :name, :value) ON CONFLICT DO NOTHING"
_TAG = (
    "INSERT INTO visionloop_tags (run_id, name, value) VALUES (:id, :name, :value)"
    " ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value"
)
_METRIC = (
    "INSERT INTO visionloop_metrics (run_id, epoch, name, value, logged_at) VALUES (:id, :epoch, :name, :value, :now)"
)
_END = "UPDATE visionloop_runs SET status = :status, ended_at = :now WHERE id = :id"

#: The epoch of what is measured once, after the training.
ONCE = 0


class DatabaseTracker:
    """The tracker."""

    name = "database"

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """It is on wherever it is named."""
        return None

    def check(self, environment: Mapping[str, str]) -> None:
        """Raises InvalidConfig for a URL that can't be used, and in a pod without one."""
        database_url(environment)

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """SQLAlchemy, and PostgreSQL's driver where that is the database."""
        url = database_url(environment)
        return ("sqlalchemy", "psycopg") if url.startswith("postgresql+psycopg:") else ("sqlalchemy",)

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """The run; the database is not connected with yet."""
        return DatabaseRun(environment, training)

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """Ends a run; one that has failed or was stopped stays as it is."""
        from sqlalchemy import text

        values = {"id": entry["run_id"], "status": status, "now": utc(time.time())}
        with writing(environment) as connection:
            connection.execute(text(f"{_END} AND status NOT IN ('failed', 'cancelled')"), values)

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """Adds metrics that have no epoch, with epoch 0; the tables hold no files."""
        from sqlalchemy import text

        if metrics:
            again = f"{_METRIC} ON CONFLICT (run_id, name, epoch) DO UPDATE SET value = excluded.value"
            with writing(environment) as connection:
                connection.execute(text(again), _rows(str(entry["run_id"]), {ONCE: metrics}))


class DatabaseRun:
    """The rows of one training."""

    def __init__(self, environment: Mapping[str, str], training: TrainingDescription) -> None:
        """Nothing is written yet."""
        self._environment, self._training = environment, training
        self._id: str | None = None

    def start(self) -> None:
        """Writes the run with its settings, or opens the one of an earlier attempt again."""
        from sqlalchemy import text

        training = self._training
        with writing(self._environment) as connection:
            wanted = str(training.earlier.get("run_id") or "")
            if not connection.execute(text(_AGAIN), {"id": wanted}).rowcount:
                wanted = uuid.uuid4().hex
                values = {"id": wanted, "run": training.run, "experiment": training.experiment, "name": training.name}
                values |= {"description": training.description, "dataset_hash": training.dataset_hash}
                connection.execute(text(_NEW_RUN), values | {"now": utc(time.time())})
            for statement, named in ((_PARAM, training.params), (_TAG, training.tags)):
                rows = [{"id": wanted, "name": name, "value": display(value)} for name, value in named.items()]
                if rows:
                    connection.execute(text(statement), rows)
        self._id = wanted

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Writes the metrics in one transaction; a value that is there stays."""
        from sqlalchemy import text

        if rows := _rows(str(self._id), epochs):
            with writing(self._environment) as connection:
                connection.execute(text(f"{_METRIC} ON CONFLICT DO NOTHING"), rows)

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """The tables hold no files."""

    def finish(self, status: str) -> None:
        """Ends the run."""
        from sqlalchemy import text

        with writing(self._environment) as connection:
            connection.execute(text(_END), {"id": self._id, "status": status, "now": utc(time.time())})

    def entry(self) -> dict[str, Any]:
        """The run's id; a database has no page."""
        return {"run_id": self._id, "url": None}


def _rows(run_id: str, epochs: Mapping[int, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each value; what is not finite is null, which SQLite has in its place anyway."""
    now = utc(time.time())
    return [
        {"id": run_id, "epoch": epoch, "name": name, "value": value if math.isfinite(value) else None, "now": now}
        for epoch, metrics in epochs.items()
        for name, value in sorted(metrics.items())
    ]


TRACKER: Tracker = DatabaseTracker()
