"""This machine: the pipeline of Kubeflow Pipelines run by ``kfp.local``, followed through events and the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.runs import run_name
from visionloop.pipelines.engines import Order, choice, clusters
from visionloop.pipelines.engines.laptop import begun
from visionloop.pipelines.engines.laptop.runner import DOCKER, RUNNERS
from visionloop.pipelines.engines.schedules import Schedules
from visionloop.pipelines.following.state import Place, RemoteRun
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.targets import Target

if TYPE_CHECKING:
    from visionloop.pipelines.completion import RunResult


class Laptop:
    """This machine (``engines.Engine``)."""

    name = "local"
    description = "this machine"
    cluster = False
    options: Mapping[str, str] = {
        "run": "the run's id (default: JOB_ID, else a new one)",
        "force": "a stage to compute again although there is a receipt",
        "runner": f"what a stage is: {' or '.join(RUNNERS)}",
    }

    def target(self, registry: str, tag: str | None, gpus: int | None) -> NoReturn:
        """Raises InvalidConfig: there is nothing to compile for."""
        raise InvalidConfig(f"--engine {self.name}: a run on this machine compiles nothing; give {choice(clusters())}.")

    def compile(self, target: Target) -> NoReturn:
        """Raises InvalidConfig as ``target`` does."""
        self.target("", None, None)

    def unexpressed(self, target: Target) -> list[str]:
        """Nothing is compiled, so nothing is lost."""
        return []

    def submit(self, order: Order) -> NoReturn:
        """Raises InvalidConfig: a run here lives as long as the command that started it."""
        raise InvalidConfig(f"--engine {self.name}: a run on this machine can't be left alone; follow it.")

    def run(self, order: Order) -> Mapping[str, Any]:
        """Runs the pipeline with the embedded services that it needs."""
        from visionloop.pipelines.environment import services_for

        name = run_name(order.options.get("run"))
        stops = (
            f"visionloop run stop {name} ends its training early, " if order.pipeline in ("train", "retrain") else ""
        )
        notice(f"run {name}: {stops}visionloop run cancel {name} {'all of it' if stops else 'ends it'}")
        with services_for(order.arguments):
            return self.result(replace(order, options={**order.options, "run": name})).summary()

    def result(self, order: Order) -> RunResult:
        """Runs the pipeline with the services that are configured.

        Raises:
            VisionloopError: The failed stage's own error; UserStopped after Ctrl-C.
        """
        from visionloop.pipelines.engines.laptop.run import run_order
        from visionloop.pipelines.preflight import (
            champion_in_environment,
            check_here,
            measured_here,
            predicted_here,
        )

        if order.pipeline == "measure":
            order = replace(order, arguments=measured_here(order.arguments))
        elif order.pipeline == "predict":
            order = replace(order, arguments=predicted_here(order.arguments))
        else:
            check_here(order.arguments, in_containers=order.options.get("runner") == DOCKER)
        order = _in_one_piece(order)
        with champion_in_environment(order.arguments):
            return run_order(order)

    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """Raises InvalidConfig: nothing that was started here goes on without its command."""
        raise InvalidConfig(
            f"--engine {self.name}: a run on this machine is followed where it was started; give {choice(clusters())}."
        )

    def place(
        self, run: str, *, workspace: str | None = None, host: str | None = None, namespace: str | None = None
    ) -> Place:
        """As the home remembers it. Raises InvalidConfig for a run that was not started here, unless a workspace is given."""
        found = begun.find(find_folder(), run_name(run))
        if found is not None and workspace in (None, found.workspace):
            return Place(found.workspace, run, found.since, found.process.alive)
        if workspace is None:
            raise self._not_here(run)
        return Place(workspace, run)

    def cancel(self, run: str, *, host: str | None = None, namespace: str | None = None) -> str | None:
        """As Ctrl-C in its terminal does. Raises InvalidConfig for a run that was not started here."""
        found = begun.find(find_folder(), run_name(run))
        if found is None:
            raise self._not_here(run)
        if not found.process.alive:
            return ""
        begun.cancel(run, found)
        return None

    def _not_here(self, run: str) -> InvalidConfig:
        return InvalidConfig(
            f"no run {run} was started on this machine ({find_folder().path}); give its --workspace, or --engine {choice(clusters())}."
        )

    def schedules(self, *, host: str | None = None, namespace: str | None = None) -> Schedules:
        """Raises InvalidConfig: this machine's own cron does it."""
        raise InvalidConfig(
            f"--engine {self.name}: this machine keeps no schedules; give {choice(clusters())}, or use its own cron."
        )


def _in_one_piece(order: Order) -> Order:
    """The order without shards: one machine gains nothing by them, and the result is the same."""
    arguments = dict(order.arguments)
    if count := arguments.pop("shards", None):
        notice(f"--shards {count}: on this machine each stage works on all images at once; the result is the same.")
    return replace(order, arguments=arguments)


ENGINE = Laptop()
