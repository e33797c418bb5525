"""What an engine tells of a run, in the same words for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

#: The states of a step, and the phases of a run.
STATES = ("waiting", "running", "succeeded", "failed", "skipped")
PHASES = ("pending", "running", "succeeded", "failed", "stopped")

#: The phases after which nothing changes any more.
ENDED = ("succeeded", "failed", "stopped")


@dataclass(frozen=True)
class Step:
    """One stage of a run, as its engine sees it.

    Attributes:
        stage: The stage's name.
        state: One of ``STATES``.
        attempt: Which try it is, 1 for the first.
        reason: Why it waits, or the message of the last failure; None where the engine says nothing.
        progress: How far it is, as the engine tells it ("3/16").
        started_at: When its first attempt began.
        finished_at: When its last attempt ended.
        exit_code: That of the last attempt, where the engine knows it.
        outputs: Its output parameters, where the engine has any.
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
    """Where a run stands.

    Attributes:
        phase: One of ``PHASES``.
        steps: Its stages in the pipeline's order.
        message: The engine's own message.
        finished_at: When the run ended, where the engine tells it apart from its steps' ends.
    """

    phase: str
    steps: tuple[Step, ...] = ()
    message: str | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.phase in ENDED


class RemoteRun(Protocol):
    """A run that an engine has taken.

    Attributes:
        engine: The engine's name.
        name: What people find it by.
        run: Its id in the workspace's record, ``{workspace}/runs/{run}``.
        page: The address of its page, where the engine has one.
        arguments: What the engine was told, as it stores it (text or JSON values).
    """

    @property
    def engine(self) -> str:
        """Which engine runs it."""
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
        """What it was started with."""
        ...

    def state(self) -> RemoteState:
        """Where it stands now.

        Raises:
            Transient: If the engine can't be asked for now.
            AccessDenied: If the caller may not see it.
            InvalidConfig: If the engine knows it no more.
        """
        ...

    def follow_command(self) -> str:
        """The command that comes back to it after detaching."""
        ...


def in_order(steps: Iterable[Step], stages: Iterable[str]) -> tuple[Step, ...]:
    """Steps in the order of the pipeline's stages; one that the list doesn't name comes last."""
    order = {stage: position for position, stage in enumerate(stages)}
    return tuple(sorted(steps, key=lambda step: order.get(step.stage, len(order))))
