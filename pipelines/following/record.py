"""The record of a run on an engine, read from the workspace with the caller's own keys, as far as they allow."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.calls import SHARDED, SHARDS
from visionloop.core import progress, receipts, stop
from visionloop.core.errors import AccessDenied, NotFound, Transient, VisionloopError
from visionloop.core.progress import Progress
from visionloop.core.runs import WARNINGS, Failure, Run, RunRecord, StageState
from visionloop.core.stop import Stop
from visionloop.core.storage import Prefix, open_prefix
from visionloop.pipelines import services
from visionloop.pipelines.environment import configured

#: Seconds before a store that did not answer is tried again, doubled each time up to the second figure: each try takes long.
AGAIN_SECONDS = 30.0
AGAIN_MOST_SECONDS = 600.0


@dataclass(frozen=True)
class StageRecord:
    """A stage's state, the progress of its training, its last failure, and the page of a stage that warned.

    ``shards`` are how many of its shards are done, and how many there are, until the whole has begun.
    """

    state: StageState
    progress: Progress | None = None
    failure: Failure | None = None
    report: str | None = None
    shards: tuple[int, int] = (0, 0)


class Record:
    """Reads a run's record, and stops after an error that a retry would not cure."""

    def __init__(self, workspace: str, run: str) -> None:
        """``workspace`` is its URI, ``run`` the run's id; nothing is read yet."""
        self._uri, self._run = workspace, run
        self._opened: tuple[Prefix, RunRecord] | None = None
        self._ended: dict[str, StageRecord] = {}
        self._last: dict[str, StageRecord] = {}
        self._again, self._wait = 0.0, AGAIN_SECONDS
        #: Why the record can't be read; None as long as it can.
        self.trouble: str | None = None

    @property
    def workspace(self) -> Prefix:
        """The results' prefix. Raises AccessDenied or InvalidConfig if it can't be opened."""
        return self._open()[0]

    def run(self) -> Run | None:
        """``run.json``. Raises VisionloopError if the store can't be read."""
        return self._open()[1].read()

    def look(self, stages: Iterable[str]) -> dict[str, StageRecord]:
        """The records of these stages now; what can't be read keeps its last known value."""
        if time.monotonic() < self._again:
            return self._last
        try:
            self._last = self.read(stages)
        except Transient as error:
            self.trouble, self._again = error.sentence, time.monotonic() + self._wait
            self._wait = min(2 * self._wait, AGAIN_MOST_SECONDS)
        except VisionloopError as error:
            self.trouble, self._again = error.sentence, math.inf
        else:
            self.trouble, self._wait = None, AGAIN_SECONDS
        return self._last

    def read(self, stages: Iterable[str]) -> dict[str, StageRecord]:
        """The records of these stages. Raises VisionloopError if the store can't be read."""
        workspace, record = self._open()
        records: dict[str, StageRecord] = {}
        for stage in stages:
            stage_record = self._ended.get(stage) or _read(workspace, record, stage)
            if stage_record.state.attempt == 0 and stage_record.state.receipt is None:
                if stage in SHARDED and (frozen := records.get("snapshot")) and frozen.state.scalars.get(SHARDS):
                    parts = [state for state in record.shards() if state.stage == stage]
                    if parts:
                        records[stage] = _of_shards(record, stage, parts, len(frozen.state.scalars[SHARDS]))
                continue
            if stage_record.state.state == "succeeded":
                self._ended[stage] = stage_record
            records[stage] = stage_record
        return records

    def _open(self) -> tuple[Prefix, RunRecord]:
        if self._opened is None:
            prefix = _open(self._uri)
            self._opened = prefix, RunRecord(prefix, self._run)
        return self._opened


def _read(workspace: Prefix, record: RunRecord, stage: str) -> StageRecord:
    state = record.state(stage)
    if state.state == "succeeded" and state.key and state.scalars.get(WARNINGS):
        result = receipts.look(workspace, stage, state.key)
        return StageRecord(state, report=result.report_uri() if result else None)
    if state.state in ("pending", "succeeded"):
        return StageRecord(state)
    advanced = None
    if state.key and stage == "train":
        with contextlib.suppress(NotFound):
            advanced = progress.read(workspace.child(f"{stage}/{state.key}"))
    return StageRecord(state, advanced, record.failure(stage))


def _of_shards(record: RunRecord, stage: str, parts: Sequence[StageState], total: int) -> StageRecord:
    """The record of a stage whose shards are at work; the failure that came first is the stage's."""
    records = (record.failure(stage, part.shard) for part in parts if part.state == "failed")
    failures = sorted((failure for failure in records if failure), key=lambda failure: failure.written_at)
    state = StageState(stage=stage, state="running", attempt=failures[0].attempt if failures else 1)
    done = sum(part.state == "succeeded" for part in parts)
    return StageRecord(state, failure=failures[0] if failures else None, shards=(done, total))


@contextlib.contextmanager
def own_keys(workspace: str) -> Iterator[None]:
    """The caller's keys for the results' store: those of the environment, else those of embedded services running on this machine."""
    connected = None if not workspace.startswith("s3://") or configured("results") else services.status().connected
    if connected is None:
        yield
        return
    variables = {name: value for name, value in connected.environment().items() if name.startswith("INTERNAL_S3_")}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


def open_record(workspace: str, run: str, arguments: Mapping[str, Any], trace_id: str | None) -> str | None:
    """Creates a run's record, with the whole run's arguments, before its first stage does.

    Returns:
        Why it could not be created, or None.
    """
    with own_keys(workspace):
        try:
            RunRecord(_open(workspace), run).open(arguments, trace_id)
        except VisionloopError as error:
            return error.sentence
    return None


def tell_cancelled(workspace: str, run: str) -> None:
    """Tells a run's stages, which the engine ends, that a person wants it; without access to the workspace they tell of a signal alone."""
    with own_keys(workspace), contextlib.suppress(VisionloopError):
        stop.ask(RunRecord(_open(workspace), run), Stop(cancelled=True))


def _open(workspace: str) -> Prefix:
    """The results' prefix.

    Raises:
        AccessDenied: If there are no keys for it here; none are looked up over the network.
    """
    if workspace.startswith("s3://") and not configured("results"):
        raise AccessDenied(
            f"{workspace}: no keys of the store are set here; set INTERNAL_S3_ENDPOINT, …ACCESS_KEY and …SECRET_KEY."
        )
    return open_prefix(workspace, "results")
