"""How a stage is run: look for the receipt, reserve the key, compute in an attempt, publish the receipt."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core import live, progress, receipts, runs, secrets, shards, stop, texts, variables
from visionloop.core.encodings import is_half
from visionloop.core.errors import (
    RETRYABLE,
    RETRYABLE_IN_PLACE,
    AccessDenied,
    Defect,
    InvalidConfig,
    NotFound,
    SickMachine,
    Terminated,
    TimeLimit,
    Transient,
    UserStopped,
    VisionloopError,
    by_code,
    is_panic,
    shortened,
)
from visionloop.core.folders import temporary_folder
from visionloop.core.limits import Limits, undisturbed
from visionloop.core.logs import LOGGER, configure, notice
from visionloop.core.packages import is_foreign, not_installed
from visionloop.core.receipts import Receipt, Result
from visionloop.core.reservation import Reservation, Watcher
from visionloop.core.stage import Action, Argument, Attempt, Computed, Context, Outcome, Resolution, Stage, key_of
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.workspace import probe

#: How often a stage retries itself when no engine retries by exit code.
ATTEMPTS_VARIABLE = "VISIONLOOP_ATTEMPTS"


FOLLOW_SECONDS = 1.0


TERMINATION_LOG = Path("/dev/termination-log")


@dataclass(frozen=True)
class Invocation:
    """How a stage is called, whatever target calls it.

    ``honour_failures`` is for an engine (KFP) that can't read exit codes and so retries every failure.
    """

    workspace: str
    run: str | None = None
    trace_id: str | None = None
    force: bool = False
    honour_failures: bool = False
    run_arguments: Mapping[str, Any] = field(default_factory=dict)


def make_arguments(
    stage: Stage | Action, values: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Any:
    """A stage's arguments from the values that a target passed.

    None and "" mean absent, and an absent argument takes the value of its variable. Only a required argument keeps "": the stage
    itself reports what is wrong with it.

    Raises:
        InvalidConfig: If a required argument is missing, or an argument is unknown.
    """
    environment = os.environ if environment is None else environment
    declared = {entry.name: entry for entry in fields(stage.arguments)}
    if unknown := sorted(set(values) - set(declared)):
        raise InvalidConfig(f"{stage.name} has no argument '{unknown[0]}'; it takes {', '.join(declared)}.")
    present: dict[str, Any] = {}
    for name, entry in declared.items():
        value = values.get(name)
        argument: Argument = entry.metadata["argument"]
        if (argument.repeated or (argument.listed and not isinstance(value, str))) and value:
            # An engine's form passes a field that was left empty as an empty text.
            value = [element for element in value if element]
        if value in (None, "", (), []) and argument.variable:
            value = environment.get(argument.variable)
        # An engine passes an output that a "successful" step lost as an empty text: the stage that reads it refuses it.
        if value not in (None, "", (), []) or (value == "" and _required(entry)):
            present[name] = value
    try:
        return stage.arguments(**present)
    except TypeError:
        missing = [name for name, entry in declared.items() if name not in present and _required(entry)]
        option = "--" + missing[0].replace("_", "-") if missing else "an argument"
        raise InvalidConfig(f"{stage.name} needs {option}; see 'visionloop stage {stage.name} --help'.") from None


def _required(entry: Any) -> bool:
    from dataclasses import MISSING

    return entry.default is MISSING and entry.default_factory is MISSING


def _refuse_half_characters(values: Mapping[str, Any]) -> None:
    """Raises InvalidConfig for bytes of a command line that are not text: no record can hold them."""
    for name, value in values.items():
        texts_of = value if isinstance(value, list) else [value]
        if half := next((text for text in texts_of if isinstance(text, str) and is_half(text)), None):
            raise InvalidConfig(
                f"--{name.replace('_', '-')} {half[:80]!a} holds half a character (a surrogate); write it in UTF-8."
            )


def run_stage(stage: Stage | Action, values: Mapping[str, Any], invocation: Invocation) -> Outcome:
    """Runs one stage until its receipt exists, retrying in this process up to VISIONLOOP_ATTEMPTS times.

    Raises:
        VisionloopError: With the exit code of docs/contract.md; it is already in the run's record.
    """
    started = time.monotonic()
    with _reported(stage, invocation) as session:
        try:
            variables.prepare()
        except InvalidConfig:
            # It goes into the record as well, unless the keys of the record's store are what is wrong.
            with contextlib.suppress(Exception):
                session.begin(values)
            raise
        session.begin(values)
        arguments = make_arguments(stage, values)
        attempts = _attempts_here()
        if invocation.honour_failures:
            # The engine may retry as well, whatever failed: attempts of earlier pods count.
            attempts = max(1, attempts - session.state.attempt)
        for attempt in range(1, attempts + 1):
            try:
                return session.attempt(arguments, started)
            except VisionloopError as error:
                again = error.exit_code in RETRYABLE_IN_PLACE and attempt < attempts and not session.asked_to_end
                if not again:
                    raise
                # Nothing is computed here, so silence is not checked; a signal still ends the stage with its own error.
                with Limits(stage.name, math.inf, 0.0, math.inf):
                    session.failed(error, final=False)
                    wait = stage.policy.backoff(attempt)
                    notice(
                        f"{stage.name}: {error.sentence} Trying again in {wait:g} s (attempt {attempt + 1} of {attempts})."
                    )
                    retry = {"sentence": error.sentence, "attempt": attempt + 1, "attempts": attempts}
                    live.emit("retry", stage=stage.name, **retry)
                    time.sleep(wait)
    raise AssertionError("the loop above returns or raises")


def _attempts_here() -> int:
    value = os.environ.get(ATTEMPTS_VARIABLE, "1")
    if not (value.isascii() and value.isdigit()) or int(value) < 1:
        raise InvalidConfig(f"VISIONLOOP_ATTEMPTS is '{value}'; give a whole number from 1.")
    return int(value)


class _Session:
    """One call of ``run_stage``: the run's record, and the attempts made in it."""

    def __init__(self, stage: Stage | Action, invocation: Invocation) -> None:
        self.stage, self.invocation = stage, invocation
        self._workspace: Prefix | None = None
        self._record: runs.RunRecord | None = None
        self.state = runs.StageState(stage=stage.name)
        self.trace_id = invocation.trace_id or os.environ.get("TRACE_ID") or ""
        self.run_arguments: dict[str, Any] = dict(invocation.run_arguments)
        self.shard = ""
        self.asked_to_end = False
        self.recorded = False
        self._context: Context | None = None

    @property
    def workspace(self) -> Prefix:
        """The results' prefix, once ``begin`` has opened it."""
        if self._workspace is None:
            raise Defect("the session has not begun")
        return self._workspace

    @property
    def record(self) -> runs.RunRecord:
        """The run's record, once ``begin`` has opened it."""
        if self._record is None:
            raise Defect("the session has not begun")
        return self._record

    def begin(self, values: Mapping[str, Any]) -> None:
        """Opens the run's record; a recent permanent failure ends a further attempt here."""
        name = runs.run_name(self.invocation.run)
        if not self.invocation.workspace:
            raise InvalidConfig(f"{self.stage.name} needs --workspace: s3://bucket/prefix, file:///folder or a path.")
        self._workspace = open_prefix(self.invocation.workspace, "results")
        self._record = runs.RunRecord(self.workspace, name)
        _refuse_half_characters(values)
        self.shard = shards.named(values)
        plain = {key: value for key, value in values.items() if value not in (None, "", (), [])}
        run = self.record.open(self.run_arguments or {self.stage.name: plain}, self.invocation.trace_id)
        self.trace_id, self.run_arguments = run.trace_id, run.arguments
        configure(trace_id=self.trace_id, run=name, stage=self.stage.name)
        if self.invocation.honour_failures:
            old = self.record.counting_failure(self.stage.name, lambda code: code not in RETRYABLE, self.shard)
            if old is not None:
                error = by_code(old.exit_code, old.error_code)(old.error_message)
                error.already_recorded = True
                raise error
        probe(self.workspace)
        self.state = self.record.state(self.stage.name, self.shard)
        previous = self.record.failure(self.stage.name, self.shard)
        if previous is not None and previous.exit_code == TimeLimit.exit_code:
            self.state.seconds = 0.0  # somebody retries by hand after the limit: the time starts again

    def attempt(self, arguments: Any, started: float) -> Outcome:
        """Makes one attempt."""
        self.state.attempt += 1
        self.state.state = "running"
        self.state.started_at = self.state.started_at or runs.now()
        self.record.write_state(self.state)
        live.emit("stage", stage=self.stage.name, state="running", attempt=self.state.attempt)
        limits = Limits(self.stage.name, self.stage.policy.timeout, self.state.seconds)
        context = Context(
            self.workspace,
            self.record,
            self.trace_id,
            limits,
            self.stage.policy,
            attempts=self.state.attempts,
            force=self.invocation.force,
            run_arguments=self.run_arguments,
            # An attempt that fails before it resumes has lost nothing of what the one before it made durable.
            last_successful_epoch=self._context.last_successful_epoch if self._context else None,
        )
        self._context = context

        def tell() -> None:
            self.state.seconds = round(limits.seconds, 1)
            self.record_state()
            LOGGER.info("%s is alive", self.stage.name, extra={"fields": {"seconds": self.state.seconds}})

        context.on_sign_of_life = tell
        limits.on_stuck = self.stuck
        try:
            with limits, _spent_time_recorded(self, limits):
                outcome = self._result(context, arguments, started)
        finally:
            self.asked_to_end = limits.asked_to_end
        self.state.state, self.state.reused = "succeeded", outcome.reused
        if outcome.result:
            self.state.key, self.state.receipt = outcome.result.receipt.key, outcome.result.uri
        self.state.scalars = outcome.scalars
        self.record.write_state(self.state)
        self.record.clear_failure(self.stage.name, self.shard)
        live.emit(
            "stage",
            stage=self.stage.name,
            state="succeeded",
            reused=outcome.reused,
            seconds=round(outcome.seconds, 1),
            warnings=outcome.scalars.get(runs.WARNINGS) or {},
            report=outcome.result.report_uri() if outcome.result else None,
        )
        self._told(outcome)
        return outcome

    def _result(self, context: Context, arguments: Any, started: float) -> Outcome:
        if isinstance(self.stage, Action):
            scalars = self.stage.act(context, arguments)
            return Outcome(self.stage.name, None, False, time.monotonic() - started, scalars)
        stage = self.stage
        resolution = stage.resolve(context, arguments)
        self.state.notices = [texts.outgoing(text) for text in resolution.notices]
        for text in self.state.notices:
            notice(text)
            live.emit("notice", stage=self.stage.name, text=text)
        key = key_of(stage, resolution)
        self.state.key = key
        self.record_state()
        prefix = context.workspace.child(f"{self.stage.name}/{key}")
        result, reused = resolution.existing, True
        if result is None:
            result, reused = self._find_or_compute(stage, context, resolution, prefix, key)
        return Outcome(self.stage.name, result, reused, time.monotonic() - started, resolution.run_scalars)

    def record_state(self) -> None:
        """Writes the stage's state."""
        self.record.write_state(self.state)

    def _find_or_compute(
        self, stage: Stage, context: Context, resolution: Resolution, prefix: Prefix, key: str
    ) -> tuple[Result, bool]:
        watcher = Watcher(prefix)
        notified = False
        replacing: str | None = None
        while True:
            existing = receipts.look(context.workspace, self.stage.name, key)
            if existing is not None and not self.invocation.force:
                obstacle = existing.obstacle()
                if obstacle is None:
                    return existing, True
                if existing.etag != replacing:
                    notice(f"{self.stage.name}: {existing.uri}: {obstacle}; it is computed again.")
            replacing = existing.etag if existing is not None else None
            if watcher.look():
                self._follow(context, prefix, watcher, notified)
                notified = True
                continue
            name = uuid.uuid4().hex[:12]
            reservation = Reservation(prefix, context.run.name, name)
            if reservation.take(watcher.etag):
                break
        try:
            # Another process may have finished between the first look and the reservation.
            if not self.invocation.force and replacing is None:
                existing = receipts.look(context.workspace, self.stage.name, key)
                if existing is not None and existing.intact():
                    return existing, True
            self.state.attempts.append(name)
            self.record_state()
            return self._compute(stage, context, resolution, prefix, key, name, replacing), False
        finally:
            reservation.release()

    def _follow(self, context: Context, prefix: Prefix, watcher: Watcher, notified: bool) -> None:
        reserved = watcher.reserved
        if not notified and reserved is not None:
            notice(f"{self.stage.name}: run {reserved.run} computes the same key; following its progress.")
            live.emit("follow", stage=self.stage.name, run=reserved.run)
        latest = progress.read(prefix)
        if latest is not None:
            live.emit("epoch", stage=self.stage.name, epoch=latest.epoch, epochs=latest.epochs, metrics=latest.metrics)
        # Waiting for a live holder does not count as silence.
        context.alive()
        context.while_following(reserved.run if reserved is not None else "another")
        time.sleep(FOLLOW_SECONDS)

    def _compute(
        self,
        stage: Stage,
        context: Context,
        resolution: Resolution,
        prefix: Prefix,
        key: str,
        name: str,
        replacing: str | None,
    ) -> Result:
        with temporary_folder(self.stage.name) as work:
            attempt = Attempt(prefix, name, work, context.alive)
            began = time.monotonic()
            computed = stage.compute(context, resolution, attempt)
            if isinstance(computed, Result):
                return computed
            return publish(stage, context, resolution, attempt, computed, time.monotonic() - began, key, replacing)

    def as_asked(self, error: VisionloopError) -> VisionloopError:
        """The error of a stage that a signal ended: a person's stop, where a person has cancelled the run on its engine."""
        if isinstance(error, Terminated) and self._record is not None:
            with undisturbed():
                if stop.is_cancelled(self._record):
                    return UserStopped(f"{self.stage.name} was cancelled by the user; start a new run to resume.")
        return error

    def stuck(self, error: VisionloopError) -> None:
        """Reports a stage that does not return from a library's code, before a thread ends the process."""
        self.failed(error, final=True)
        write_termination_log(error.sentence)

    def failed(self, error: VisionloopError, *, final: bool) -> None:
        """Writes the failure into the run's record; if the record can't be written, the error stays the same."""
        if error.last_successful_epoch is None and self._context is not None:
            error.last_successful_epoch = self._context.last_successful_epoch
        trace = texts.traceback(error.__cause__ or error) if error.exit_code == 70 else None
        live.emit(
            "stage" if final else "failure",
            stage=self.stage.name,
            state="failed",
            sentence=error.sentence,
            exit_code=error.exit_code,
        )
        if self._record is None or error.already_recorded:
            return
        failure = runs.describe_failure(
            self.stage.name,
            error,
            attempt=self.state.attempt,
            trace_id=self.trace_id,
            traceback=trace,
            shard=self.shard,
        )
        with undisturbed(), contextlib.suppress(VisionloopError, NotFound):
            self.record.write_failure(failure)
            self.recorded = True
            self.state.state = "cancelled" if isinstance(error, UserStopped) else "failed"
            self.record.write_state(self.state)
        self._told(failure)

    def _told(self, end: Outcome | runs.Failure) -> None:
        """Tells the attempt's end to whoever is told, and records how many events there were."""
        if self._context is None:
            return
        at_end, self._context.at_end = self._context.at_end, lambda _: {}  # it is told once
        with undisturbed(), contextlib.suppress(VisionloopError, NotFound):
            if counts := at_end(end):
                before = self.state.events
                self.state.events = {name: before.get(name, 0) + number for name, number in counts.items()}
                self.record.write_state(self.state)


def publish(
    stage: Stage,
    context: Context,
    resolution: Resolution,
    attempt: Attempt,
    computed: Computed,
    seconds: float,
    key: str,
    replacing: str | None,
) -> Result:
    """Writes the receipt, the last object of a result; if another attempt was first, its receipt is used."""
    receipt = Receipt(
        stage=stage.name,
        logic_version=stage.logic_version,
        key=key,
        attempt=attempt.name,
        inputs=dict(resolution.inputs),
        parameters=dict(resolution.parameters),
        outputs=attempt.outputs,
        digest=receipts.digest_of(attempt.outputs),
        scalars=secrets.redact_fields(computed.scalars),
        metrics=receipts.finite(computed.metrics),
        timings=receipts.finite({"seconds": round(seconds, 3), **computed.timings}),
        versions={"visionloop": version("visionloop"), **computed.versions},
        trace_id=context.trace_id,
        tracking=computed.tracking,
    )
    return receipts.publish(attempt.key_prefix, receipt, replacing)


@contextlib.contextmanager
def _spent_time_recorded(session: _Session, limits: Limits) -> Iterator[None]:
    try:
        yield
    finally:
        session.state.seconds = round(limits.seconds, 3)


@contextlib.contextmanager
def _reported(stage: Stage | Action, invocation: Invocation) -> Iterator[_Session]:
    """Handles every way in which a stage can end without a receipt.

    Whatever was raised becomes a VisionloopError, which is written to the run's record, handed to the engine as the step's message
    (not after Ctrl-C) and raised.
    """
    session = _Session(stage, invocation)
    try:
        configure(trace_id=session.trace_id, run=invocation.run or "", stage=stage.name)
        yield session
    except VisionloopError as error:
        told = session.as_asked(error)
        session.failed(told, final=True)
        write_termination_log(told.sentence)
        if told is error:
            raise
        raise told from error
    except NotFound as error:
        raised = Transient(f"{error}: the object was there a moment ago and is gone; run the stage again.")
        session.failed(raised, final=True)
        write_termination_log(raised.sentence)
        raise raised from error
    except KeyboardInterrupt as error:
        stopped = UserStopped(f"{stage.name} was stopped by the user; run it again to resume.")
        session.failed(stopped, final=True)
        raise stopped from error
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        local = of_this_machine(stage.name, error)
        if local is not None:
            session.failed(local, final=True)
            write_termination_log(local.sentence)
            raise local from error
        defect = Defect(f"{stage.name} met a defect of Visionloop ({type(error).__name__}: {error}); please report it.")
        defect.__cause__ = error
        session.failed(defect, final=True)
        if not session.recorded:
            LOGGER.error(defect.sentence, exc_info=error)
        write_termination_log(defect.sentence)
        raise defect from error


def of_this_machine(what: str, error: BaseException) -> VisionloopError | None:
    """The error for a disk or a package of this machine that no other code has named; None for any other error.

    Args:
        what: The stage or the command, for the sentence.
        error: What was raised.
    """
    if isinstance(error, ModuleNotFoundError) and is_foreign(error):
        return not_installed(error, what)
    if not isinstance(error, OSError):
        return None
    where = error.filename or what
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SickMachine(f"{where}: the machine's disk is full; free space or choose another TMPDIR.")
    if error.errno == errno.EIO:
        return SickMachine(
            f"{where}: a disk of this machine fails to read or write; replace it or use another machine."
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return AccessDenied(f"{where}: permission denied; let this user read and write it.")
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG) and error.filename:
        return AccessDenied(f"{where} can't be read or written ({error.strerror}); correct the path.")
    return None


def write_termination_log(sentence: str) -> None:
    """Hands the sentence to the engine: the termination log becomes the step's message."""
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(shortened(sentence, 4000), encoding="utf-8")
