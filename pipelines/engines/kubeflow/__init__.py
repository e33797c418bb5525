"""Kubeflow Pipelines: the IR, runs of uploaded pipelines, and recurring runs."""

from __future__ import annotations

from collections.abc import Mapping

from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.cluster import ClusterEngine
from visionloop.pipelines.engines.schedules import Schedules
from visionloop.pipelines.following.state import RemoteRun
from visionloop.pipelines.targets import Target, cluster


class Kubeflow(ClusterEngine):
    """Kubeflow Pipelines (``engines.Engine``)."""

    name = "kfp"
    options: Mapping[str, str] = {
        "namespace": "the user's, if there are any",
        "host": "the server's",
        "detach": "submit and do not follow",
        "gpus": "GPUs of train, of which evaluate has one; 0 runs both on the CPU (default: the policy's)",
    }

    def target(self, registry: str, tag: str | None, gpus: int | None) -> Target:
        """A cluster; the number of GPUs is compiled in."""
        return cluster(registry, tag, gpus)

    def compile(self, target: Target) -> dict[str, str]:
        """The pipelines' IR."""
        from visionloop.pipelines.engines.kubeflow.ir import kfp_files

        return kfp_files(target)

    def unexpressed(self, target: Target) -> list[str]:
        """What no field of a task can hold."""
        from visionloop.pipelines.engines.kubeflow.tasks import unexpressed_of

        return unexpressed_of(target)

    def submit(self, order: Order) -> RemoteRun:
        """Uploads the pipeline as it compiles here, unless the server has it, and starts a run of it."""
        from visionloop.pipelines.engines.kubeflow.runs import submit

        host, namespace = order.options.get("host"), order.options.get("namespace")
        return submit(order.pipeline, order.arguments, host=host, namespace=namespace, trace_id=order.trace_id)

    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """A run by its id, or the newest of a name."""
        from visionloop.pipelines.engines.kubeflow.runs import find

        return find(run, host=host, namespace=namespace)

    def schedules(self, *, host: str | None = None, namespace: str | None = None) -> Schedules:
        """The recurring runs of an installation, or of a user's namespace."""
        from visionloop.pipelines.engines.kubeflow.schedules import KubeflowSchedules

        return KubeflowSchedules(host, namespace)


ENGINE = Kubeflow()
