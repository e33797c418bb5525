"""The record beside a training's key: which runs of which trackers it is logged to, and whether they were ended.

A later attempt continues the runs, and whoever finds one left open (a pod that was lost says nothing) ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from visionloop.core.errors import NotFound, Transient, VisionloopError
from visionloop.core.logs import LOGGER, notice
from visionloop.core.storage import Prefix
from visionloop.training.tracking import choice
from visionloop.training.tracking.connection import describe

FILE = "tracking.json"

#: Seconds that a tracker is waited for by cleanup and by the stages behind the training.
ANSWER_SECONDS = 60.0

#: The field of a run's entry with the state with which it was ended; without it it is open. Records of before have it once, for
#: all runs, beside the trackers' names.
ENDED = "ended"


def read(prefix: Prefix) -> dict[str, dict[str, Any]]:
    """The runs' entries in the record of a key, by tracker; empty if it is missing or unreadable."""
    try:
        value = msgspec.json.decode(prefix.read(FILE))
    except (NotFound, msgspec.MsgspecError):
        return {}
    if not isinstance(value, dict):
        return {}
    before = {ENDED: value[ENDED]} if ENDED in value else {}
    return {name: before | entry for name, entry in value.items() if isinstance(entry, dict)}


def write(prefix: Prefix, record: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the record of a key. A store that refuses is one log line."""
    try:
        prefix.write(FILE, msgspec.json.encode(record))
    except VisionloopError as error:
        LOGGER.warning("the trackers' runs are not remembered (%s)", error.sentence)


def mlflow_run_id(record: Mapping[str, Any] | str) -> str | None:
    """MLflow's id of the run in a record, or in a receipt's ``tracking``."""
    return run_id(record.get("mlflow")) if isinstance(record, Mapping) else None


def run_id(entry: Any) -> str | None:
    """The id of the run in an entry; None if there is none."""
    value = entry.get("run_id") if isinstance(entry, Mapping) else None
    return value if isinstance(value, str) else None


def end_left_open(environment: Mapping[str, str], prefix: Prefix, status: str) -> bool:
    """Ends the runs that a key's record says are open, or succeeded without a result; whatever fails is one log line.

    Args:
        environment: The process's variables.
        prefix: The prefix of the key.
        status: A state of ``runs``: succeeded, failed or cancelled.

    Returns:
        Whether one was ended now.
    """
    try:
        record = read(prefix)
    except VisionloopError as error:
        LOGGER.warning("the trackers' runs at %s could not be ended: %s", prefix.uri, error.sentence)
        return False
    ended = dict(record)
    for name, entry in record.items():
        if _is_settled(entry, status) or not _end(environment, prefix, name, entry, status):
            continue
        ended[name] = {**entry, ENDED: status}
        LOGGER.info("%s run %s was left open; it is ended as %s", name, run_id(entry), status)
    if ended == record:
        return False
    write(prefix, ended)
    return True


def _is_settled(entry: Mapping[str, Any], status: str) -> bool:
    """Whether a run has ended as it should."""
    ended = entry.get(ENDED)
    return run_id(entry) is None or ended not in (None, "succeeded") or ended == status


def _end(environment: Mapping[str, str], prefix: Prefix, name: str, entry: Mapping[str, Any], status: str) -> bool:
    try:
        tracker = choice.tracker(name)
        if tracker.why_off(environment) is not None:
            return False
        _within(partial(tracker.end, environment, entry, status))
    except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the stage's own end counts
        LOGGER.warning("%s's run of %s could not be ended: %s", name, prefix.uri, describe(error))
        return False
    return True


def attach(
    environment: Mapping[str, str],
    runs: Mapping[str, Any] | str,
    metrics: Mapping[str, float],
    files: Mapping[str, bytes],
) -> None:
    """Adds what a later stage found to a training's runs; whatever fails is one notice a tracker.

    Args:
        environment: The process's variables.
        runs: The training receipt's `tracking`.
        metrics: Values by name, each logged once.
        files: Contents by their path beside the run.
    """
    for name, entry in runs.items() if isinstance(runs, Mapping) else ():
        if run_id(entry) is None:
            continue
        try:
            tracker = choice.tracker(name)
            if tracker.why_off(environment) is None:
                _within(partial(tracker.add, environment, entry, metrics, files))
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the stage's result counts
            left_out = ", ".join([*metrics, *files])
            notice(f"left out of {name}'s run {entry['run_id']}: {left_out} ({describe(error)})")


def _within(call: Callable[[], object]) -> None:
    """Calls a tracker, and waits ``ANSWER_SECONDS`` at most: whoever asks has work of its own. Raises what the tracker raises."""
    raised: list[BaseException] = []

    def answer() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            raised.append(error)

    thread = threading.Thread(target=answer, name="tracking", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if thread.is_alive():
        raise Transient("it does not answer")
    if raised:
        error = raised[0]
        raise error if isinstance(error, Exception) else RuntimeError(f"it raised {type(error).__name__}")
