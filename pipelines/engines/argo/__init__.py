"""Argo Workflows: WorkflowTemplates, workflows made from them, and CronWorkflows."""

from __future__ import annotations

from collections.abc import Mapping

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.cluster import ClusterEngine
from visionloop.pipelines.engines.schedules import Schedules
from visionloop.pipelines.following.state import RemoteRun
from visionloop.pipelines.targets import Target, cluster


class Argo(ClusterEngine):
    """Argo Workflows (``engines.Engine``)."""

    name = "argo"
    options: Mapping[str, str] = {
        "namespace": "the namespace (default: ARGO_NAMESPACE, else visionloop)",
        "host": "the address of Argo's server (default: ARGO_SERVER, else the Kubernetes API is asked)",
        "parameter": "a parameter that only Argo's form has, such as gpus=0; may be given many times",
        "detach": "submit and do not follow",
        "timezone": "the time zone of --cron, such as Asia/Seoul",
    }

    def target(self, registry: str, tag: str | None, gpus: int | None) -> Target:
        """A cluster; each run's form asks for the number of GPUs."""
        if gpus is not None:
            raise InvalidConfig("--gpus: on Argo the number is a parameter of each run, gpus; leave --gpus out.")
        return cluster(registry, tag)

    def compile(self, target: Target) -> dict[str, str]:
        """WorkflowTemplates, the schedule, and a kustomization of them."""
        from visionloop.pipelines.engines.argo.manifests import argo_files

        return argo_files(target)

    def unexpressed(self, target: Target) -> list[str]:
        """Nothing: Argo expresses all of the policies."""
        return []

    def submit(self, order: Order) -> RemoteRun:
        """Starts a workflow from the installed template."""
        from visionloop.pipelines.engines.argo.runs import submit

        asked = {**order.arguments, **order.options.get("parameter", {})}
        host, namespace = order.options.get("host"), order.options.get("namespace")
        return submit(order.pipeline, asked, host=host, namespace=namespace, trace_id=order.trace_id)

    def find(self, run: str, *, host: str | None = None, namespace: str | None = None) -> RemoteRun:
        """A workflow by its name."""
        from visionloop.pipelines.engines.argo.runs import find

        return find(run, host=host, namespace=namespace)

    def schedules(self, *, host: str | None = None, namespace: str | None = None) -> Schedules:
        """The CronWorkflows of a namespace."""
        from visionloop.pipelines.engines.argo.schedules import ArgoSchedules

        return ArgoSchedules(host, namespace)


ENGINE = Argo()
