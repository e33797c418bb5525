"""The engines that run the pipelines: a folder and one line of ENGINES each.

Nothing else names an engine: what the command line offers, says and refuses is asked of them. Their modules are imported by
need, and bring the libraries of their engine later still.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.schedules import Schedules
from visionloop.pipelines.following.state import RemoteRun
from visionloop.pipelines.targets import Target

#: Where each engine's ``ENGINE`` lies, in the order in which a person reads them; the first runs what names no engine.
ENGINES: Mapping[str, str] = {
    "local": "visionloop.pipelines.engines.laptop",
    "argo": "visionloop.pipelines.engines.argo",
    "kfp": "visionloop.pipelines.engines.kubeflow",
}


@dataclass(frozen=True)
class Order:
    """A run that somebody asks an engine for.

    Attributes:
        pipeline: Its name in ``definitions.PIPELINES``.
        arguments: The pipeline's arguments by name.
        options: What was given of the options that only some engines have, by name: ``run``, ``force``, ``runner``, ``host``,
            ``namespace``, ``parameter`` (a mapping), ``detach``.
        trace_id: The run's trace id; None makes a new one.
    """

    pipeline: str
    arguments: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str | None = None


class Engine(Protocol):
    """An engine.

    Attributes:
        name: As ``--engine`` names it.
        description: What ``--engine``'s help says of it, "" where the name says it all.
        cluster: Whether its runs go on without the command that started them, in pods that see no file of this machine.
        options: What it takes of the options that only some engines have, each with its part of the option's help.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def description(self) -> str:
        """What it is."""
        ...

    @property
    def cluster(self) -> bool:
        """Whether pods run its stages."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """Its own options."""
        ...

    def target(self, registry: str, tag: str | None, gpus: int | None) -> Target:
        """What its pipelines are compiled for. Raises InvalidConfig where it asks for the GPUs at each run."""
        ...

    def compile(self, target: Target) -> dict[str, str]:
        """Its files by name. Raises InvalidConfig where it has none."""
        ...

    def unexpressed(self, target: Target) -> list[str]:
        """What gets lost of the policies, one sentence part each."""
        ...

    def submit(self, order: Order) -> RemoteRun:
        """Starts a run that goes on by itself.

        Raises:
            InvalidConfig: If nothing says where the engine is, or it doesn't take the pipeline or an argument.
            AccessDenied: If the caller may not.
            Transient: If it does not answer.
        """
        ...

    def run(self, order: Order) -> Mapping[str, Any]:
        """Starts a run and follows it to its end, or only starts it where ``detach`` is asked for.

        Returns:
            The JSON object that ends stdout (docs/contract.md, "Commands").

        Raises:
            VisionloopError: The failed stage's own error, or as ``submit``.
        """
        ...

    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """A run that was started before. Raises as ``submit``; InvalidConfig if there is none."""
        ...

    def schedules(self, *, host: str | None = None, namespace: str | None = None) -> Schedules:
        """Its schedules. Raises as ``submit``; InvalidConfig if it keeps none."""
        ...


def engine(name: str) -> Engine:
    """An engine by its name.

    Raises:
        InvalidConfig: If there is none of that name.
    """
    if name not in ENGINES:
        raise InvalidConfig(f"--engine {name}: give one of {', '.join(ENGINES)}.")
    chosen: Engine = importlib.import_module(ENGINES[name]).ENGINE
    return chosen


def engines() -> list[Engine]:
    """Every engine, in the order in which a person reads them."""
    return [engine(name) for name in ENGINES]


def clusters() -> list[str]:
    """The names of the engines whose stages run in pods."""
    return [candidate.name for candidate in engines() if candidate.cluster]


def taking(option: str) -> list[str]:
    """The names of the engines that take an option."""
    return [candidate.name for candidate in engines() if option in candidate.options]


def help_of(option: str) -> str:
    """An option's help: what it means on each engine that takes it, "argo, kfp: submit and do not follow."."""
    said: dict[str, list[str]] = {}
    for candidate in engines():
        if option in candidate.options:
            said.setdefault(candidate.options[option], []).append(candidate.name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in said.items()) + "."


def choice(names: list[str]) -> str:
    """Names as a person writes a choice: "argo, kfp or local"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
