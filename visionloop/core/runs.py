"""The record of a run: ``{workspace}/runs/{run}/``. It exists before any key does, and decides nothing about results."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from visionloop.core import secrets, structs
from visionloop.core.errors import InvalidConfig, NotFound, UserStopped, VisionloopError
from visionloop.core.storage import Prefix

Kind = TypeVar("Kind")

#: The argument of a run's record that describes the pipeline that was run.
PIPELINE = "pipeline"

#: Set by a compiled pipeline in its stages' pods: the value of that argument, a JSON object.
PIPELINE_VARIABLE = "VISIONLOOP_PIPELINE"

#: Set by the local runner: the run's name. If it is set, no engine retries, and a recorded failure does not end a new attempt.
RUN_VARIABLE = "VISIONLOOP_RUN"

#: Set by the local runner: the stages that compute again although they have a receipt, comma-separated.
FORCE_VARIABLE = "VISIONLOOP_FORCE"

#: Seconds for which a permanent failure ends the remaining attempts of an engine that can't read exit codes.
FAILURE_COUNTS_SECONDS = 180

#: The folder of a run's record that holds the states of shards.
SHARDS = "shards"

#: The folder of a run's record that holds what people decided about the version that it registered.
DECISIONS = "decisions"

#: The request to stop the run's training (``visionloop.core.stop``).
STOP_FILE = "stop.json"

#: Files that are not a stage's state: the run itself, that request, and the mark that people were notified of its end.
_NO_STATES = ("run.json", STOP_FILE, "notified.json")

#: The scalar of a stage that says how often it warned of each code.
WARNINGS = "warnings_by_code"

#: The states of a run and a stage as people see them, and the names of the same states in events.
EVENT_NAMES = {"succeeded": "completed", "failed": "failed", "cancelled": "stopped"}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """``run.json``: created once, by the first stage that runs."""

    run: str
    trace_id: str
    arguments: dict[str, Any]
    created_at: str


class StageState(msgspec.Struct, kw_only=True):
    """``{stage}.json``: the state of a stage of this run; ``shards/{stage}.2-of-8.json`` that of a shard of it (``shard`` is "2/8").

    ``state`` is pending, running, succeeded, failed or cancelled; ``seconds`` is the time used over all attempts; ``events``
    counts those that were sent and dropped, where somebody is told of a training.
    """

    stage: str
    state: str = "pending"
    attempt: int = 0
    attempts: list[str] = []
    key: str | None = None
    receipt: str | None = None
    reused: bool | None = None
    seconds: float = 0.0
    started_at: str | None = None
    updated_at: str | None = None
    notices: list[str] = []
    scalars: dict[str, Any] = {}
    shard: str = ""
    events: dict[str, int] = {}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """``{stage}.failure.json``: the fields of a failed completion event."""

    stage: str
    exit_code: int
    error_code: str
    error_message: str
    error_type: str
    last_successful_epoch: int | None
    attempt: int
    trace_id: str
    written_at: float
    traceback: str | None = None
    batch: int | None = None
    receipt: str | None = None
    shard: str = ""

    @property
    def event(self) -> str:
        """What events and messages call the state that it left the stage in."""
        return EVENT_NAMES["cancelled" if self.exit_code == UserStopped.exit_code else "failed"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``decisions/{at}-{id}.json``: a person's decision about a registered version.

    ``decision`` is promote or rollback, ``version`` the champion from then on, ``champion`` the one before it, if there was one.
    """

    id: str
    decision: str
    model: str
    version: int
    champion: int | None
    by: str
    at: str
    reason: str


def now() -> str:
    """The time in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def run_name(requested: str | None) -> str:
    """The run's name: the argument, else ``JOB_ID`` or, from before, ``TRAINING_JOB_ID``, else a new name.

    Raises:
        InvalidConfig: If it can't be the name of a folder.
    """
    stated = os.environ.get("JOB_ID") or os.environ.get("TRAINING_JOB_ID")
    name = requested or stated or f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise InvalidConfig(
            f"--run '{name}': use up to 128 letters, digits, '.', '_' and '-', a letter or digit first."
        )
    return name


def _pipeline() -> dict[str, Any]:
    """The pipeline that this pod belongs to, as set by the compiler; empty outside a compiled pipeline."""
    with contextlib.suppress(msgspec.MsgspecError):
        return {PIPELINE: structs.decode(os.environ.get(PIPELINE_VARIABLE, ""), dict[str, Any])}
    return {}


class RunRecord:
    """Reads and writes one run's record."""

    def __init__(self, workspace: Prefix, run: str) -> None:
        """``workspace`` is the results' prefix; nothing is read yet."""
        self.name, self.workspace = run, workspace
        self.prefix = workspace.child(f"runs/{run}")
        self.uri = self.prefix.uri

    def open(self, arguments: Mapping[str, Any], trace_id: str | None) -> Run:
        """Creates ``run.json`` unless it exists.

        The trace id is the argument, else ``TRACE_ID``, else that of the record, else a new one. The pipeline that a pod's
        variable names is added to the arguments, unless they already hold one.

        Raises:
            InvalidConfig: If the workspace's bucket does not exist.
        """
        wanted = trace_id or os.environ.get("TRACE_ID")
        recorded = secrets.redact_fields({**_pipeline(), **arguments})
        run = Run(run=self.name, trace_id=wanted or str(uuid.uuid4()), arguments=recorded, created_at=now())
        try:
            if self.prefix.create("run.json", msgspec.json.encode(run)):
                return run
        except NotFound:
            raise InvalidConfig(
                f"{self.workspace.uri}: the workspace's bucket does not exist; create it or correct --workspace."
            ) from None
        existing = self.read()
        if existing is None:
            return run
        return msgspec.structs.replace(existing, trace_id=wanted or existing.trace_id)

    def read(self) -> Run | None:
        """``run.json``, or None if it does not exist."""
        return self._read("run.json", Run)

    def state(self, stage: str, shard: str = "") -> StageState:
        """The recorded state of a stage, or of a shard of it, or a new one."""
        return self._read(f"{_recorded_as(stage, shard)}.json", StageState) or StageState(stage=stage, shard=shard)

    def write_state(self, state: StageState) -> None:
        """Records the state of a stage."""
        state.updated_at = now()
        state.scalars = secrets.redact_fields(state.scalars)
        self.prefix.write(f"{_recorded_as(state.stage, state.shard)}.json", _encoded(state))

    def failure(self, stage: str, shard: str = "") -> Failure | None:
        """The last failure of a stage, or of a shard of it, in this run."""
        return self._read(f"{_recorded_as(stage, shard)}.failure.json", Failure)

    def write_failure(self, failure: Failure) -> None:
        """Records a failure, replacing an earlier one."""
        self.prefix.write(f"{_recorded_as(failure.stage, failure.shard)}.failure.json", _encoded(failure))

    def clear_failure(self, stage: str, shard: str = "") -> None:
        """Removes a failure after the stage, or the shard of it, has succeeded."""
        self.prefix.delete([f"{_recorded_as(stage, shard)}.failure.json"])

    def counting_failure(self, stage: str, permanent: Any, shard: str = "") -> Failure | None:
        """A permanent failure of this stage, or of a shard of it, in this run that is recent enough to end a further attempt."""
        failure = self.failure(stage, shard)
        if failure is None or not permanent(failure.exit_code):
            return None
        return failure if 0 <= time.time() - failure.written_at < FAILURE_COUNTS_SECONDS else None

    def stages(self) -> list[StageState]:
        """The state of every stage that this run has begun."""
        names = [info.key for info in self.prefix.children()[1]]
        states = [
            self.state(name.removesuffix(".json"))
            for name in (key.rsplit("/", 1)[-1] for key in names)
            if name.endswith(".json") and name not in _NO_STATES and not name.endswith(".failure.json")
        ]
        return sorted(states, key=lambda state: state.started_at or "")

    def shards(self) -> list[StageState]:
        """The state of every shard of a stage that this run has begun, by stage and number."""
        names = (info.key.rsplit("/", 1)[-1] for info in self.prefix.children(SHARDS)[1])
        states = (
            self._read(f"{SHARDS}/{name}", StageState)
            for name in names
            if name.endswith(".json") and not name.endswith(".failure.json")
        )
        return sorted(
            (state for state in states if state), key=lambda state: (state.stage, len(state.shard), state.shard)
        )

    def failures(self) -> list[Failure]:
        """Every stage's failure, and every shard's."""
        states = (*self.stages(), *self.shards())
        return [failure for state in states if (failure := self.failure(state.stage, state.shard))]

    def write_decision(self, decision: Decision) -> None:
        """Records a decision, once however often it is carried out."""
        name = f"{DECISIONS}/{decision.at.replace(':', '')}-{decision.id}.json"
        self.prefix.create(name, msgspec.json.encode(decision))

    def decisions(self) -> list[Decision]:
        """What people decided about the version that this run registered, the oldest first."""
        names = sorted(info.key.rsplit("/", 1)[-1] for info in self.prefix.children(DECISIONS)[1])
        read = (self._read(f"{DECISIONS}/{name}", Decision) for name in names)
        return [decision for decision in read if decision]

    def _read(self, name: str, kind: type[Kind]) -> Kind | None:
        with contextlib.suppress(NotFound, msgspec.MsgspecError):
            return structs.decode(self.prefix.read(name), kind)
        return None


def _recorded_as(stage: str, shard: str) -> str:
    """The name of a state's file without its ending."""
    return f"{SHARDS}/{stage}.{shard.replace('/', '-of-')}" if shard else stage


def _encoded(record: StageState | Failure) -> bytes:
    """A state's or a failure's JSON; that of a whole stage has no ``shard``, that of a stage that told nobody no ``events``."""
    fields = msgspec.structs.asdict(record)
    return msgspec.json.encode(
        {name: fields[name] for name in fields if fields[name] or name not in ("shard", "events")}
    )


def describe_failure(
    stage: str, error: VisionloopError, *, attempt: int, trace_id: str, traceback: str | None, shard: str = ""
) -> Failure:
    """The record of an error."""
    return Failure(
        stage=stage,
        exit_code=error.exit_code,
        error_code=error.error_code,
        error_message=error.sentence,
        error_type=error.error_type,
        last_successful_epoch=error.last_successful_epoch,
        attempt=attempt,
        trace_id=trace_id,
        written_at=time.time(),
        traceback=traceback if error.exit_code == 70 else None,
        batch=error.batch,
        receipt=error.receipt,
        shard=shard,
    )
