"""The engines that run the pipelines: each is a folder and one line of ENGINES.

Nothing else names an engine: what the command line offers, says and refuses comes from them. Their modules are imported on
demand, and import the libraries of their engine later still.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.schedules import Schedules
from visionloop.pipelines.following.state import Place, RemoteRun
from visionloop.pipelines.targets import Target

#: The module of each engine's ``ENGINE``, in the order in which people see them; the first is the default.
ENGINES: Mapping[str, str] = {
    "local": "visionloop.pipelines.engines.laptop",
    "argo": "visionloop.pipelines.engines.argo",
    "kfp": "visionloop.pipelines.engines.kubeflow",
}


@dataclass(frozen=True)
class Order:
    """A request to an engine for a run.

    Attributes:
        pipeline: Its name in ``definitions.PIPELINES``.
        arguments: The pipeline's arguments by name.
        options: The given options that only some engines have, by name: ``run``, ``force``, ``runner``, ``host``,
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
        description: Its text in ``--engine``'s help; "" if the name says it all.
        cluster: Whether its runs outlive the command that started them, in pods that see no file of this machine.
        options: The options that it takes and only some engines have, each with its part of the option's help.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def description(self) -> str:
        """Its description."""
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
        """What its pipelines are compiled for. Raises InvalidConfig if it takes the number of GPUs at each run."""
        ...

    def compile(self, target: Target) -> dict[str, str]:
        """Its files by name. Raises InvalidConfig if it has none."""
        ...

    def unexpressed(self, target: Target) -> list[str]:
        """What it can't express of the policies, one phrase each."""
        ...

    def submit(self, order: Order) -> RemoteRun:
        """Starts a run that continues without the caller.

        Raises:
            InvalidConfig: If the engine's address is not configured, or it doesn't take the pipeline or an argument.
            AccessDenied: If the caller lacks the rights.
            Transient: If it does not answer.
        """
        ...

    def run(self, order: Order) -> Mapping[str, Any]:
        """Starts a run and follows it to its end, or only starts it if ``detach`` is requested.

        Returns:
            The JSON object that ends stdout (docs/contract.md, "Commands").

        Raises:
            VisionloopError: The failed stage's own error, or as ``submit``.
        """
        ...

    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """A run that was started earlier. Raises as ``submit``; InvalidConfig if there is none."""
        ...

    def place(
        self, run: str, *, workspace: str | None = None, host: str | None = None, namespace: str | None = None
    ) -> Place:
        """Where the record of a run lies; nothing is asked that the caller says. Raises as ``find``."""
        ...

    def cancel(self, run: str, *, host: str | None = None, namespace: str | None = None) -> str | None:
        """Ends a run at once; what it has so far stays.

        Returns:
            How it has ended already (succeeded, failed or cancelled), "" if it has and only its record says how, or None if it
            was ended now.

        Raises:
            VisionloopError: As ``find``; Transient if it does not end.
        """
        ...

    def schedules(self, *, host: str | None = None, namespace: str | None = None) -> Schedules:
        """Its schedules. Raises as ``submit``; InvalidConfig if it keeps none."""
        ...


def engine(name: str) -> Engine:
    """An engine by its name.

    Raises:
        InvalidConfig: If there is no engine of that name.
    """
    if name not in ENGINES:
        raise InvalidConfig(f"--engine {name}: give one of {', '.join(ENGINES)}.")
    chosen: Engine = importlib.import_module(ENGINES[name]).ENGINE
    return chosen


def engines() -> list[Engine]:
    """Every engine, in the order in which people see them."""
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
