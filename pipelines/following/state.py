"""The state of a run on an engine, in terms common to all engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

#: The states of a step, and the phases of a run.
STATES = ("waiting", "running", "succeeded", "failed", "skipped")
PHASES = ("pending", "running", "succeeded", "failed", "stopped")

#: The final phases, each by the state that people see.
ENDED = {"succeeded": "succeeded", "failed": "failed", "stopped": "cancelled"}


@dataclass(frozen=True)
class Step:
    """A stage of a run, as its engine reports it.

    Attributes:
        stage: The stage's name.
        state: One of ``STATES``.
        attempt: Number of the attempt, 1 for the first.
        reason: Why it waits, or the message of the last failure; None if the engine gives none.
        progress: Its progress as the engine reports it ("3/16").
        started_at: When its first attempt began.
        finished_at: When its last attempt ended.
        exit_code: Exit code of the last attempt, if the engine knows it.
        outputs: Its output parameters, if the engine has any.
        shards: How many of its shards are done, and how many there are; 0 where it has none, or the engine does not say.
    """

    stage: str
    state: str
    attempt: int = 1
    reason: str | None = None
    progress: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    shards: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class RemoteState:
    """The state of a run.

    Attributes:
        phase: One of ``PHASES``.
        steps: Its stages in the pipeline's order.
        message: The engine's own message.
        finished_at: When the run ended, if the engine reports it separately from its steps' ends.
    """

    phase: str
    steps: tuple[Step, ...] = ()
    message: str | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether the phase is final."""
        return self.phase in ENDED


@dataclass(frozen=True)
class Place:
    """Where a run's record lies.

    Attributes:
        workspace: The URI of its workspace.
        run: Its id there.
        since: When it was started last (``runs.now``), where that is known: what is recorded before belongs to an earlier start.
        alive: Whether what runs it goes on; None where only the record can tell.
    """

    workspace: str
    run: str
    since: str = ""
    alive: bool | None = None


class RemoteRun(Protocol):
    """A run on an engine.

    Attributes:
        engine: The engine's name.
        name: Its name for people.
        run: Its id in the workspace's record, ``{workspace}/runs/{run}``.
        page: The address of its page, if the engine has one.
        arguments: Its arguments as the engine stores them (text or JSON values).
    """

    @property
    def engine(self) -> str:
        """The engine that runs it."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def run(self) -> str:
        """Its id in the record."""
        ...

    @property
    def page(self) -> str | None:
        """Its page's address."""
        ...

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Its arguments."""
        ...

    def state(self) -> RemoteState:
        """Its state now.

        Raises:
            Transient: If the engine can't be reached now.
            AccessDenied: If the caller may not read it.
            InvalidConfig: If the engine no longer has it.
        """
        ...

    def with_outputs(self, state: RemoteState) -> RemoteState:
        """The final state with its steps' output parameters, where the engine keeps them apart from the state.

        Raises:
            VisionloopError: If they can't be read from here.
        """
        ...

    def cancel(self) -> None:
        """Ends it at once.

        Raises:
            Transient: If the engine can't be reached now.
            AccessDenied: If the caller may not end it.
            InvalidConfig: If the engine no longer has it.
        """
        ...

    def follow_command(self) -> str:
        """The command that follows it again after detaching."""
        ...


def of_shards(whole: Step | None, parts: Sequence[Step], total: int = 0) -> Step:
    """A stage in shards as one step: it runs until the whole, which puts them together, does.

    Args:
        whole: The step of the whole, where there is one. After a shard that failed it is left out.
        parts: The shards, one at least.
        total: How many there are; 0 where the engine does not say.
    """
    over = all(part.state in ("succeeded", "skipped") for part in parts)
    if whole is None or (whole.state in ("waiting", "skipped") and not over):
        return _of_parts(parts, total)
    return whole


def _of_parts(parts: Sequence[Step], total: int) -> Step:
    failed = [part for part in parts if part.state == "failed"]
    if failed:
        return min(failed, key=lambda part: (part.finished_at is None, part.finished_at))
    begun = [part.started_at for part in parts if part.started_at is not None]
    waits = all(part.state == "waiting" for part in parts)
    return Step(
        parts[0].stage,
        "waiting" if waits else "running",
        reason=parts[0].reason if waits else None,
        started_at=min(begun, default=None),
        shards=(sum(part.state in ("succeeded", "skipped") for part in parts), total),
    )


def in_order(steps: Iterable[Step], stages: Iterable[str]) -> tuple[Step, ...]:
    """Steps in the order of the pipeline's stages; one that the list doesn't name comes last."""
    order = {stage: position for position, stage in enumerate(stages)}
    return tuple(sorted(steps, key=lambda step: order.get(step.stage, len(order))))
