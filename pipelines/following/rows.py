"""A row for each stage, from the engine's state and the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from visionloop.core.policy import POLICIES
from visionloop.core.runs import WARNINGS
from visionloop.pipelines.engines.laptop.display import done_text, epoch_text
from visionloop.pipelines.following.record import StageRecord
from visionloop.pipelines.following.state import RemoteState, Step
from visionloop.pipelines.warned import warnings_text

#: The sign before a stage's name, by state.
MARKS = {"waiting": "…", "running": "●", "succeeded": "✓", "failed": "✗", "skipped": "–", "pending": " "}

#: What an engine counts of a stage's progress, where it is not images; of a training, epochs.
UNITS = {"train": "", "register": "files"}


@dataclass(frozen=True)
class Row:
    """What is shown for a stage.

    ``state`` is a step's state, or pending before it has begun. ``since`` is the start of a stage that is running.
    """

    stage: str
    state: str
    text: str = ""
    notices: tuple[str, ...] = ()
    since: datetime | None = None

    @property
    def mark(self) -> str:
        """The sign before the stage's name."""
        return MARKS[self.state]

    def elapsed(self, now: datetime | None = None) -> str:
        """How long the stage has been running, for people; "" if that is unknown."""
        return "" if self.since is None else duration((now or datetime.now(UTC)) - self.since)


def rows(state: RemoteState, records: Mapping[str, StageRecord], stages: tuple[str, ...]) -> tuple[Row, ...]:
    """A row for each stage of the pipeline, in its order, then for other steps of the engine."""
    steps = {step.stage: step for step in state.steps}
    named = (*stages, *(stage for stage in steps if stage not in stages))
    return tuple(
        _row(stage, _further(stage, steps.get(stage), records.get(stage)), records.get(stage)) for stage in named
    )


def duration(span: timedelta) -> str:
    """A time span for people: seconds, minutes and seconds, or hours and minutes."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _further(stage: str, step: Step | None, record: StageRecord | None) -> Step | None:
    """The engine's step, or the record's state if the engine is behind it.

    Kubeflow Pipelines does not read the tasks of a workflow that Argo has compressed, as it does above 1 MB.
    """
    if record is None or (step is not None and step.state not in ("waiting", "running")):
        return step
    if record.state.state == "succeeded":
        return Step(stage, "succeeded", started_at=step.started_at if step else None)
    if step is None and record.state.state == "running":
        return Step(stage, "running", attempt=record.state.attempt)
    return step


def _row(stage: str, step: Step | None, record: StageRecord | None) -> Row:
    reused = bool(record and record.state.reused)
    notices = (*record.state.notices, *_warnings(record)) if record else ()
    if step is None:
        return Row(stage, "pending")
    match step.state:
        case "succeeded":
            spent = _spent(step, record)
            text = "reused" if reused else f"done in {duration(spent)}" if spent else "done"
            return Row(stage, "succeeded", text, notices)
        case "skipped":
            return Row(stage, "succeeded" if reused else "skipped", "reused" if reused else "skipped")
        case "failed":
            return Row(stage, "failed", sentence(step, record), notices)
        case "waiting":
            before = _before(step, record)
            return Row(stage, "waiting", "; ".join(part for part in (before, step.reason or "waiting") if part))
        case _:
            parts = [_attempt(stage, step), _epoch(step, record), _shards(step, record)]
            text = "  ".join(part for part in parts if part)
            return Row(stage, "running", text, notices, step.started_at)


def _warnings(record: StageRecord) -> tuple[str, ...]:
    counts = record.state.scalars.get(WARNINGS)
    text = (
        warnings_text(counts, record.report) if isinstance(counts, dict) and record.state.state == "succeeded" else ""
    )
    return (text,) if text else ()


def _spent(step: Step, record: StageRecord | None) -> timedelta | None:
    """How long a stage took: by the engine, which includes its pod's start, else by the record."""
    if step.started_at is not None and step.finished_at is not None:
        return step.finished_at - step.started_at
    return timedelta(seconds=record.state.seconds) if record else None


def sentence(step: Step, record: StageRecord | None) -> str:
    """Why a stage failed: the record's sentence if it is from the last attempt, else the engine's message."""
    if record and record.failure and record.failure.attempt >= record.state.attempt:
        return record.failure.error_message
    return step.reason or "failed; the engine says no more"


def _attempt(stage: str, step: Step) -> str:
    if step.attempt < 2:
        return ""
    policy = POLICIES.get(stage)
    return f"attempt {step.attempt}" + (f" of {policy.attempts}" if policy else "")


def _before(step: Step, record: StageRecord | None) -> str:
    """How the previous attempt ended, while the next one waits."""
    if record is None or record.failure is None or record.failure.error_message in (step.reason or ""):
        return ""
    return f"{record.failure.error_message} Trying again"


def _shards(step: Step, record: StageRecord | None) -> str:
    """How many shards are done; the record knows how many there are."""
    done, total = record.shards if record and record.shards[1] else step.shards
    return f"{done} of {total} shards" if total else f"{done} shards" if done else ""


def _epoch(step: Step, record: StageRecord | None) -> str:
    if record and record.progress:
        return epoch_text(record.progress.epoch, record.progress.epochs, record.progress.metrics)
    done, _, total = (step.progress or "").partition("/")
    if not (done.isdigit() and total.isdigit() and int(total) > 1):
        return ""
    return done_text(int(done), int(total), UNITS.get(step.stage, "images")).rstrip()
