"""What a stage is: its arguments, what it resolves and computes, where it runs, and what it ends with.

Nothing here knows what a stage computes; nothing in a stage knows how its result is found again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, runtime_checkable

from typing_extensions import TypeVar

from visionloop.core import live, receipts, runs
from visionloop.core.canonical import stage_key
from visionloop.core.limits import Limits
from visionloop.core.policy import SIGN_OF_LIFE_SECONDS, StagePolicy
from visionloop.core.receipts import InputReference, Output, Parameter, Receipt, Result
from visionloop.core.storage import Prefix

#: A stage's dataclass of arguments, and what it hands from ``resolve`` to ``compute``; both are Any unless given in brackets.
Arguments = TypeVar("Arguments", default=Any)
Loaded = TypeVar("Loaded", default=Any)

#: The value of ``loaded`` where ``compute`` will not be called.
_NOT_LOADED: Any = None

#: Seconds between two reports of how much of its images a stage has done.
PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Argument:
    """A stage's argument as people see it: its meaning, and the variable that gives its value when it is absent."""

    description: str
    variable: str | None = None
    repeated: bool = False
    listed: bool = False


def argument(
    description: str, *, default: Any = ..., variable: str | None = None, repeated: bool = False, listed: bool = False
) -> Any:
    """A field of a stage's arguments dataclass.

    Args:
        description: Its meaning.
        default: Its default; without one it is required.
        variable: The variable that gives its value when it is absent.
        repeated: Whether it is a list, which a command line gives one by one; a form has no field for it.
        listed: Whether a command line may give it one by one as well: it is a text, or a list of them.
    """
    metadata = {"argument": Argument(description, variable, repeated, listed)}
    if default is ...:
        return field(metadata=metadata)
    if repeated:
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Resolution(Generic[Loaded]):
    """What decides a stage's result, resolved without writing anything.

    ``existing`` is a receipt that is the result regardless of the key (a snapshot requested by its id, the evaluation that
    promoted the champion). ``loaded`` is anything that the stage hands from ``resolve`` to ``compute``. ``run_scalars``
    belong to this run only and are not part of the receipt.
    """

    inputs: dict[str, InputReference] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    existing: Result | None = None
    loaded: Loaded = _NOT_LOADED
    run_scalars: dict[str, Any] = field(default_factory=dict)


@dataclass
class Computed:
    """What a receipt holds in addition to the outputs; ``timings`` are in seconds, ``versions`` are of the libraries that did the work."""

    scalars: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tracking: dict[str, Any] | str = receipts.NOT_TRACKED


class Stage(Protocol[Arguments, Loaded]):
    """One stage. ``arguments`` is a frozen dataclass whose fields are made by ``argument``."""

    name: str
    logic_version: int
    policy: StagePolicy
    arguments: type[Arguments]
    description: str

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Resolves inputs and parameters; reads, never writes."""

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed | Result:
        """Does the work and puts the outputs into ``attempt``; a Result is one that was published under another key."""


@runtime_checkable
class Explains(Protocol[Loaded]):
    """A stage that can explain a differing parameter beyond its old and new value."""

    def explain(self, existing: Result, resolution: Resolution[Loaded]) -> dict[str, list[str]]:
        """Short texts by parameter name; an empty list leaves the parameter out."""


@runtime_checkable
class Action(Protocol):
    """A stage that has no key and no receipt, because it acts on the world: cleanup."""

    name: str
    policy: StagePolicy
    arguments: type[Any]
    description: str

    def act(self, context: Context, arguments: Any) -> dict[str, Any]:
        """Performs the action and returns scalars; a second call changes nothing."""


@dataclass
class Context:
    """Where a stage runs. None of it is part of a key.

    ``planned`` holds the scalars of the stages before this one where none of them ran: in a plan.
    ``last_successful_epoch`` is the last epoch whose checkpoint is durable, whatever ends the stage afterwards.
    ``at_end`` is called once the stage's end is in the run's record, with the outcome or the failure; it returns the events that
    were sent and dropped, and never raises.
    ``while_following`` is called again and again while another run, whose name it gets, computes the same key; it may raise.
    """

    workspace: Prefix
    run: runs.RunRecord
    trace_id: str
    limits: Limits
    policy: StagePolicy
    attempts: list[str] = field(default_factory=list)
    force: bool = False
    planning: bool = False
    run_arguments: dict[str, Any] = field(default_factory=dict)
    planned: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    last_successful_epoch: int | None = None
    on_sign_of_life: Callable[[], None] = lambda: None
    at_end: Callable[[Outcome | runs.Failure], Mapping[str, int]] = lambda _: {}
    while_following: Callable[[str], None] = lambda _: None
    _last_sign_of_life: float = field(default_factory=time.monotonic)
    _last_progress: float = -math.inf

    def scalars_of(self, stage: str) -> Mapping[str, Any]:
        """The scalars of an earlier stage of this run."""
        return self.planned[stage] if stage in self.planned else self.run.state(stage).scalars

    def alive(self) -> None:
        """Reports a finished piece of work; at most once a minute it is written to the run's record."""
        self.limits.alive()
        if time.monotonic() - self._last_sign_of_life >= SIGN_OF_LIFE_SECONDS:
            self._last_sign_of_life = time.monotonic()
            self.on_sign_of_life()

    def advanced(self, done: int, total: int, unit: str = "images", size: int = 0, whole: int = 0) -> None:
        """Reports that ``done`` of ``total`` images, or other units, are done; a sign of life, shown at most a few times a second.

        ``size`` and ``whole`` are the same in bytes, 0 where bytes say nothing.
        """
        self.alive()
        if self._is_due() or done >= total:
            live.progress(self.limits.stage, done, total, unit, size, whole)

    def fetched(self, done: int, total: int, size: int, whole: int) -> None:
        """``advanced`` for images that are read, with their bytes."""
        self.advanced(done, total, "images", size, whole)

    def listed(self, number: int, size: int, before: int = 0) -> None:
        """Reports how many objects of a dataset are listed so far, their bytes, and how many there were the last time; 0 if unknown."""
        self.alive()
        if self._is_due():
            live.listed(self.limits.stage, number, size, before)

    def _is_due(self) -> bool:
        """Whether progress was not shown for a while; then it is now."""
        now = time.monotonic()
        due = now - self._last_progress >= PROGRESS_SECONDS
        if due:
            self._last_progress = now
        return due


class Attempt:
    """One attempt at a key: a folder of its own in the workspace, and a temporary one on this machine."""

    def __init__(self, key_prefix: Prefix, name: str, work: Path, alive: Callable[[], None]) -> None:
        """``key_prefix`` is the prefix of the key."""
        self.key_prefix, self.name, self.work = key_prefix, name, work
        self.outputs: dict[str, Output] = {}
        self._alive = alive

    def write(self, name: str, file: str, data: bytes, *, result: bool) -> None:
        """Writes an output's bytes."""
        sent = self.key_prefix.write(f"{self.name}/{file}", data)
        self.outputs[name] = Output(f"{self.name}/{file}", sent.size, sent.sha256, result)
        self._alive()

    def upload(self, name: str, file: str, local: Path, *, result: bool) -> None:
        """Uploads an output from a file."""
        sent = self.key_prefix.upload(local, f"{self.name}/{file}", self._alive)
        self.outputs[name] = Output(f"{self.name}/{file}", sent.size, sent.sha256, result)
        self._alive()


@dataclass(frozen=True)
class Outcome:
    """A finished stage: its receipt (None for an action), whether it was reused, and the seconds that this call took.

    ``run_scalars`` belong to this run only.
    """

    stage: str
    result: Result | None
    reused: bool
    seconds: float
    run_scalars: Mapping[str, Any] = field(default_factory=dict)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, or None for an action."""
        return self.result.receipt if self.result else None

    @property
    def scalars(self) -> dict[str, Any]:
        """The receipt's scalars and this run's."""
        return {**(self.result.receipt.scalars if self.result else {}), **self.run_scalars}

    def summary(self) -> dict[str, Any]:
        """The JSON object that ends stdout."""
        return {
            "stage": self.stage,
            "key": self.result.receipt.key if self.result else None,
            "receipt": self.result.uri if self.result else None,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            **self.scalars,
            "timings": self.result.receipt.timings if self.result else {},
            "metrics": self.result.receipt.metrics if self.result else {},
        }


def key_of(stage: Stage, resolution: Resolution) -> str:
    """The key of a resolution."""
    return stage_key(
        stage.name,
        stage.logic_version,
        {name: reference.digest for name, reference in resolution.inputs.items()},
        {name: parameter.value for name, parameter in resolution.parameters.items()},
    )
