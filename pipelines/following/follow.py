"""Follows a run on an engine to its end: what it registered, or the failed stage's own error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from visionloop.components.calls import STAGES_OF
from visionloop.core.errors import (
    Defect,
    InvalidConfig,
    Killed,
    Terminated,
    TimeLimit,
    Transient,
    UserStopped,
    VisionloopError,
    by_code,
)
from visionloop.core.receipts import load
from visionloop.core.runs import Run
from visionloop.pipelines.completion import RunResult, completed, has_ended, mlflow_address, registered_name
from visionloop.pipelines.following.display import Display
from visionloop.pipelines.following.record import Record, StageRecord, own_keys
from visionloop.pipelines.following.rows import rows, sentence
from visionloop.pipelines.following.state import RemoteRun, RemoteState, Step

#: Seconds between two queries of a run's state.
LOOK_SECONDS = 2.0

#: Texts by which an engine's message is recognised as one about its own time limit.
_LIMITS = ("deadline", "duration limit")


def follow(
    remote: RemoteRun, workspace: str, arguments: Mapping[str, Any], *, every: float = LOOK_SECONDS
) -> dict[str, Any]:
    """Shows the state of a run until its end.

    Epochs, metrics and error sentences are read from the workspace with the caller's own keys. Without access to it, which is
    reported once, only the engine's states are shown, and the result is what the engine reports.

    Args:
        remote: The run.
        workspace: The workspace's URI.
        arguments: The run's arguments.
        every: Seconds between two queries.

    Returns:
        The JSON summary of a run (docs/contract.md, "Commands").

    Raises:
        VisionloopError: The failed stage's own error; UserStopped or Terminated if this process is asked to end; the run goes on.
    """
    stages = stages_of(arguments)
    with ExitStack() as open_until_the_end:
        # From the first output on: its reader may ask for the end at once.
        try:
            display = open_until_the_end.enter_context(closing(Display(_title(remote), stages)))
            open_until_the_end.enter_context(own_keys(workspace))
            record = Record(workspace, remote.run)
            state, records = _watch(remote, record, display, stages, every)
        except KeyboardInterrupt:
            raise UserStopped(_goes_on(remote)) from None
        except Terminated:
            raise Terminated(_goes_on(remote)) from None
        raised = ""
        try:
            # Not further up: the run's own error may be of these classes too.
            if records is None:
                return _end_unseen(remote, _with_outputs(remote, state, display), arguments)
            return _end(remote, record, state, records, arguments)
        except VisionloopError as error:
            raised = error.sentence
            raise
        finally:
            display.tell_failures(raised)


def _watch(
    remote: RemoteRun, record: Record, display: Display, stages: tuple[str, ...], every: float
) -> tuple[RemoteState, dict[str, StageRecord] | None]:
    """Shows a run until its end; returns its last state, and its record, or None if that can't be read."""
    state = RemoteState("pending")
    while True:
        try:
            state, message = remote.state(), None
        except Transient as error:
            message = f"{error.sentence} The run goes on; asking again."
        except InvalidConfig:
            # An engine removes finished runs after a while; the record stays.
            records = _read_whole(record, stages)
            if records is None or not has_ended({stage: entry.state for stage, entry in records.items()}):
                raise
            return state, records
        records = record.look(stages if state.steps else ())
        if record.trouble:
            display.note(
                f"the workspace can't be read here, so only {remote.engine}'s own states are shown: {record.trouble}"
            )
        display.show(rows(state, records, stages), message or (None if state.ended else state.message))
        if state.ended:
            return state, _read_whole(record, stages)
        time.sleep(every)


def _title(remote: RemoteRun) -> str:
    return f"{remote.name}  {remote.engine}" + (f"  {remote.page}" if remote.page else "")


def _goes_on(remote: RemoteRun) -> str:
    return f"No longer following {remote.name}: the run goes on; come back with: {remote.follow_command()}"


def stages_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages of the pipeline that a run has these arguments of."""
    if "images" in arguments:
        return STAGES_OF["predict"]
    return STAGES_OF["measure" if "model" in arguments and "model_name" not in arguments else "train"]


def _read_whole(record: Record, stages: tuple[str, ...]) -> dict[str, StageRecord] | None:
    """The record of every stage; None if it can't be read, or if this store does not hold it."""
    try:
        return record.read(stages) or None
    except VisionloopError:
        return None


def _end(
    remote: RemoteRun,
    record: Record,
    state: RemoteState,
    records: Mapping[str, StageRecord],
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    states = {
        stage: stage_record.state for stage, stage_record in records.items() if stage_record.state.state == "succeeded"
    }
    if not completed(states):
        raise _no_receipt(remote) if state.phase == "succeeded" else _failure(remote, state, records)
    if (register := states.get("register")) and register.receipt:
        load(register.receipt, "register")
    run = record.run() or Run(run=remote.run, trace_id="", arguments={}, created_at="")
    # On an engine, each stage writes its own arguments into the record; the run's are those that it was started with.
    run = msgspec.structs.replace(run, arguments=dict(arguments))
    return RunResult(run, states, _seconds(state), record.workspace).summary()


def _with_outputs(remote: RemoteRun, state: RemoteState, display: Display) -> RemoteState:
    """A state with its steps' outputs; one sentence if the engine's can't be read from here."""
    if state.phase != "succeeded":
        return state
    try:
        return remote.with_outputs(state)
    except VisionloopError as error:
        page = f", {remote.page}" if remote.page else ""
        display.note(f"verdict, version and metrics stand on the run's page{page}, and in MLflow: {error.sentence}")
        return state


def _end_unseen(remote: RemoteRun, state: RemoteState, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The result as the engine reports it, for a caller who can't read the workspace."""
    if state.phase != "succeeded":
        raise _failure(remote, state, {})
    steps = {step.stage: step for step in state.steps if step.state == "succeeded"}
    register, evaluate, convert = (steps.get(stage) for stage in ("register", "evaluate", "convert"))
    if register and register.outputs and not _output(register, "receipt"):
        raise _no_receipt(remote)
    # An evaluation that was there already is what convert found, in its outputs.
    judged, measured = (evaluate, "metrics") if _output(evaluate, "verdict") else (convert, "evaluation_metrics")
    verdict, version = _output(judged, "verdict"), _output(register, "version")
    given_name = str(arguments.get("model_name") or "")
    return {
        "run": remote.run,
        "trace_id": arguments.get("trace_id") or None,
        "model_name": registered_name(given_name),
        "given_name": given_name,
        "version": int(version) if version and version.isdigit() else version,
        "alias": _output(register, "alias"),
        "alias_reason": None,
        "verdict": verdict,
        "reason": _output(judged if verdict else steps.get("snapshot"), "reason"),
        "metrics": _metrics(_output(judged, measured)),
        **_predicted(steps.get("predict"), arguments),
        "reports": {},
        "mlflow": mlflow_address(),
        "seconds": round(_seconds(state), 3),
        "timings": {},
        "warnings": {},
        "stages": {
            stage: {"key": None, "receipt": _output(step, "receipt"), "reused": None, "seconds": _seconds_of([step])}
            for stage, step in steps.items()
        },
    }


def _output(step: Step | None, name: str) -> str | None:
    return (step.outputs.get(name) or None) if step else None


def _predicted(predict: Step | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine tells of a run that predicts."""
    if predict is None:
        return {}
    counted = {name: text and int(text) for name in ("objects", "unreadable") for text in [_output(predict, name)]}
    named = {"model": arguments.get("model"), "images_uri": arguments.get("images")}
    return {"predicted": {**named, **counted, **dict.fromkeys(("images", "shards", "images_per_second", "results"))}}


def _metrics(text: str | None) -> dict[str, float]:
    """An engine's output parameter with metrics; stages of an older version have none."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text or "{}", type=dict[str, float])
    return {}


def _seconds(state: RemoteState) -> float:
    return _seconds_of(state.steps, state.finished_at)


def _seconds_of(steps: Iterable[Step], finished_at: datetime | None = None) -> float:
    """From the first start to the last end, or to the run's end if known: an engine may report its steps late."""
    begun = [step.started_at for step in steps if step.started_at]
    ended = [finished_at] if finished_at else [step.finished_at for step in steps if step.finished_at]
    return float((max(ended) - min(begun)).total_seconds()) if begun and ended else 0.0


def _no_receipt(remote: RemoteRun) -> Defect:
    """Success is the receipt: engines have called a killed step a success (argo-workflows#2672, #12231)."""
    return Defect(
        f"{remote.engine} called {remote.name} a success, but register has no receipt; start the run again, and report it if that happens twice."
    )


def _failure(remote: RemoteRun, state: RemoteState, records: Mapping[str, StageRecord]) -> VisionloopError:
    """The error of the stage that failed first; if no stage failed, an error with the engine's message."""
    if state.phase == "stopped":
        return UserStopped(
            f"{remote.name} was stopped on {remote.engine} ({state.message or 'by hand'}); start the run again to resume."
        )
    last = datetime.max.replace(tzinfo=UTC)
    failed = sorted((step for step in state.steps if step.state == "failed"), key=lambda step: step.finished_at or last)
    if failed:
        return _error_of(failed[0], records.get(failed[0].stage))
    recorded = [
        stage_record.failure
        for stage_record in records.values()
        if stage_record.failure and stage_record.state.state in ("failed", "cancelled")
    ]
    if recorded:
        first = min(recorded, key=lambda failure: failure.written_at)
        return by_code(first.exit_code, first.error_code)(first.error_message)
    return _error_in(f"{remote.name}: {state.message or 'the engine ended the run and no stage tells why'}")


def _error_of(step: Step, record: StageRecord | None) -> VisionloopError:
    if record and record.failure and record.failure.attempt >= record.state.attempt:
        return by_code(record.failure.exit_code, record.failure.error_code)(record.failure.error_message)
    text = sentence(step, record)
    if step.exit_code is not None and step.exit_code > 0:
        return by_code(step.exit_code)(text)
    return _error_in(f"{step.stage}: {text}")


def _error_in(message: str) -> VisionloopError:
    """An error for an engine's message without an exit code: a limit, or a lost pod."""
    if any(word in message.lower() for word in _LIMITS):
        return TimeLimit(f"{message}; raise the limit in the policy or train less.")
    return Killed(f"{message}; start the run again to resume.")
