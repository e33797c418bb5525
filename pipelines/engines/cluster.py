"""What the engines of clusters share: a run is submitted, then followed from here or left alone."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from visionloop.core.errors import InvalidConfig, Terminated, UserStopped, VisionloopError
from visionloop.data.datasets import parse_datasets
from visionloop.pipelines.engines import Order
from visionloop.pipelines.following.record import tell_cancelled
from visionloop.pipelines.following.state import ENDED, Place, RemoteRun
from visionloop.pipelines.preflight import check_from_outside, measured_from_outside, predicted_from_outside

#: What is looked at before a pipeline is submitted, where it is not what a training takes.
_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "measure": measured_from_outside,
    "predict": predicted_from_outside,
}


class ClusterEngine(ABC):
    """The part of ``engines.Engine`` that is the same wherever pods run the stages."""

    name: str
    cluster = True
    description = ""

    @abstractmethod
    def submit(self, order: Order) -> RemoteRun:
        """Starts a run that continues without the caller."""

    @abstractmethod
    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """A run that was started earlier."""

    def place(
        self, run: str, *, workspace: str | None = None, host: str | None = None, namespace: str | None = None
    ) -> Place:
        """As the engine tells it; with a workspace the engine is not asked, and ``run`` is the id in the record."""
        if workspace is not None:
            return Place(workspace, run)
        remote = self.find(run, host=host, namespace=namespace)
        return Place(str(remote.arguments.get("workspace") or ""), remote.run)

    def cancel(self, run: str, *, host: str | None = None, namespace: str | None = None) -> str | None:
        """Has the engine end it."""
        remote = self.find(run, host=host, namespace=namespace)
        state = remote.state()
        if state.ended:
            return ENDED[state.phase]
        remote.cancel()
        if workspace := remote.arguments.get("workspace"):
            tell_cancelled(str(workspace), remote.run)
        return None

    def run(self, order: Order) -> Mapping[str, Any]:
        """Submits a run, and follows it unless ``detach`` is requested.

        Raises:
            InvalidConfig: If an argument lies on this machine, where no pod reaches it.
            UserStopped: After Ctrl-C; the run goes on.
            Terminated: After SIGTERM; the run goes on.
            VisionloopError: The failed stage's own error.
        """
        from visionloop.pipelines.following.follow import follow

        check_reachable(order.arguments)
        _CHECKS.get(order.pipeline, check_from_outside)(order.arguments)
        try:
            submitted = self.submit(order)
        except (KeyboardInterrupt, Terminated) as asked_to_end:
            error: type[VisionloopError] = UserStopped if isinstance(asked_to_end, KeyboardInterrupt) else Terminated
            raise error(
                f"Stopped while the run was being submitted: {self.name} may have taken it all the same; look there."
            ) from None
        if order.options.get("detach"):
            print(f"The run goes on; follow it with: {submitted.follow_command()}", file=sys.stderr)  # noqa: T201
            return {"run": submitted.run, "engine": submitted.engine, "name": submitted.name, "page": submitted.page}
        asked = {**order.arguments, **order.options.get("parameter", {})}
        return follow(submitted, str(order.arguments["workspace"]), asked)


def check_reachable(arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that a pod can't reach.

    Raises:
        InvalidConfig: If an argument names a folder or a file of this machine.
    """
    named = [
        (name, arguments.get(name))
        for name in ("workspace", "images", "gate", "classes", "checks", "retraining", "storage")
    ]
    if arguments.get("dataset"):
        named[1:1] = [("dataset", dataset.uri) for dataset in parse_datasets(arguments["dataset"])]
    for name, value in named:
        if str(value or "").startswith("file://"):
            raise InvalidConfig(
                f"--{name} {value} lies on this machine, where no pod of an engine can reach it; give an s3:// URI."
            )
