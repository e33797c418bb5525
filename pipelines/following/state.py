"""The state of a run on an engine, in terms common to all engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

#: The states of a step, and the phases of a run.
STATES = ("waiting", "running", "succeeded", "failed", "skipped")
PHASES = ("pending", "running", "succeeded", "failed", "stopped")

#: The final phases.
ENDED = ("succeeded", "failed", "stopped")


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

    def follow_command(self) -> str:
        """The command that follows it again after detaching."""
        ...


def in_order(steps: Iterable[Step], stages: Iterable[str]) -> tuple[Step, ...]:
    """Steps in the order of the pipeline's stages; one that the list doesn't name comes last."""
    order = {stage: position for position, stage in enumerate(stages)}
    return tuple(sorted(steps, key=lambda step: order.get(step.stage, len(order))))
