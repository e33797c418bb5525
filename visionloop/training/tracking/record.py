"""The record beside a training's key: which run of which tracker it is logged to, and whether that run was ended.

A later attempt continues the run, and whoever finds it left open (a pod that was lost says nothing) ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.logs import LOGGER, notice
from visionloop.core.storage import Prefix
from visionloop.training.tracking.connection import describe, tracking_uri

FILE = "tracking.json"

#: The field next to the trackers' names: the state with which their runs were ended; without it they are open.
ENDED = "ended"


def read(prefix: Prefix) -> dict[str, Any]:
    """The record of a key; empty if it is missing or unreadable."""
    try:
        value = msgspec.json.decode(prefix.read(FILE))
    except (NotFound, msgspec.MsgspecError):
        return {}
    return value if isinstance(value, dict) else {}


def write(prefix: Prefix, record: Mapping[str, Any]) -> None:
    """Writes the record of a key. A store that refuses is one log line."""
    try:
        prefix.write(FILE, msgspec.json.encode(record))
    except VisionloopError as error:
        LOGGER.warning("the tracker's run is not remembered (%s)", error.sentence)


def run_id(record: Mapping[str, Any]) -> str | None:
    """MLflow's id of the run in a record."""
    entry = record.get("mlflow")
    value = entry.get("run_id") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else None


def end_left_open(environment: Mapping[str, str], prefix: Prefix, status: str) -> bool:
    """Ends the run that a key's record says is open, or succeeded without a result; whatever fails is one log line.

    Args:
        environment: The process's variables.
        prefix: The prefix of the key.
        status: A state of ``runs``: succeeded, failed or cancelled.

    Returns:
        Whether it was ended now.
    """
    try:
        record = read(prefix)
        run = run_id(record)
        settled = record.get(ENDED) not in (None, "succeeded") or record.get(ENDED) == status
        if run is None or settled or not tracking_uri(environment):
            return False
        from visionloop.training.tracking.mlflow_tracker import end_run

        end_run(environment, run, status)
    except Exception as error:  # noqa: BLE001 - whatever a store or a tracker raises, the stage's own end counts
        LOGGER.warning("the tracker's run at %s could not be ended: %s", prefix.uri, describe(error))
        return False
    write(prefix, {**record, ENDED: status})
    LOGGER.info("mlflow run %s was left open; it is ended as %s", run, status)
    return True


def attach(
    environment: Mapping[str, str],
    runs: Mapping[str, Any] | str,
    metrics: Mapping[str, float],
    files: Mapping[str, bytes],
) -> None:
    """Adds what a later stage found to a training's run; whatever fails is one notice.

    Args:
        environment: The process's variables.
        runs: The training receipt's `tracking`.
        metrics: Values by name, each logged once.
        files: Contents by their path on the run's page.
    """
    run = run_id(runs) if isinstance(runs, Mapping) else None
    if run is None or not tracking_uri(environment):
        return
    try:
        from visionloop.training.tracking import mlflow_tracker

        mlflow_tracker.attach(environment, run, metrics, files)
    except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the stage's result counts
        notice(f"left out of MLflow's page of run {run}: {', '.join([*metrics, *files])} ({describe(error)})")
