"""Schedules on Argo Workflows: CronWorkflows that start the installed WorkflowTemplate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from visionloop.core.errors import InvalidConfig, Transient
from visionloop.pipelines.engines.argo.client import SERVER_VARIABLE, ArgoServer, Client, KubernetesApi, Refused
from visionloop.pipelines.engines.argo.retrain import KEPT_RUNS, LATEST_START_SECONDS
from visionloop.pipelines.engines.argo.runs import NAMESPACE, NAMESPACE_VARIABLE, refuse_placeholders, workflow_of
from visionloop.pipelines.engines.schedules import Schedule, next_time
from visionloop.pipelines.following.cron import Cron

#: Labels of a CronWorkflow and of the workflows that it starts.
OURS = {"app.kubernetes.io/name": "visionloop"}
SCHEDULE_LABEL = "visionloop/schedule"

#: How often a change is tried that conflicts with another one, such as the controller's own.
_TRIES = 5

_GROUP = "/apis/argoproj.io/v1alpha1"


class _CronWorkflows(Client, Protocol):
    """A client's requests about CronWorkflows."""

    def create_cron(self, namespace: str, cron: Mapping[str, Any]) -> dict[str, Any]: ...
    def cron(self, namespace: str, name: str) -> dict[str, Any]: ...
    def crons(self, namespace: str, selector: str) -> list[dict[str, Any]]: ...
    def suspend_cron(self, namespace: str, name: str, suspended: bool) -> None: ...
    def delete_cron(self, namespace: str, name: str) -> None: ...


class _Kubernetes(KubernetesApi):
    def create_cron(self, namespace: str, cron: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", self._path(namespace), body=cron)

    def cron(self, namespace: str, name: str) -> dict[str, Any]:
        return self._call("GET", self._path(namespace, name))

    def crons(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        return list(self._call("GET", self._path(namespace), {"labelSelector": selector}).get("items") or ())

    def suspend_cron(self, namespace: str, name: str, suspended: bool) -> None:
        for _ in range(_TRIES):
            stored = self.cron(namespace, name)
            stored["spec"]["suspend"] = suspended
            try:
                self._call("PUT", self._path(namespace, name), body=stored)
            except Refused as error:
                if error.status != 409:
                    raise
            else:
                return
        raise Transient(f"The schedule {name} was changed by others {_TRIES} times at once; try again.")

    def delete_cron(self, namespace: str, name: str) -> None:
        self._call("DELETE", self._path(namespace, name))

    @staticmethod
    def _path(namespace: str, name: str = "") -> str:
        path = f"{_GROUP}/namespaces/{quote(namespace, safe='')}/cronworkflows"
        return f"{path}/{quote(name, safe='')}" if name else path


class _Server(ArgoServer):
    def create_cron(self, namespace: str, cron: Mapping[str, Any]) -> dict[str, Any]:
        body = {"namespace": namespace, "cronWorkflow": cron}
        return self._call("POST", self._path(namespace), body)

    def cron(self, namespace: str, name: str) -> dict[str, Any]:
        return self._call("GET", self._path(namespace, name))

    def crons(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        query = urlencode({"listOptions.labelSelector": selector})
        return list(self._call("GET", f"{self._path(namespace)}?{query}").get("items") or ())

    def suspend_cron(self, namespace: str, name: str, suspended: bool) -> None:
        verb = "suspend" if suspended else "resume"
        self._call("PUT", f"{self._path(namespace, name)}/{verb}", {"namespace": namespace, "name": name})

    def delete_cron(self, namespace: str, name: str) -> None:
        self._call("DELETE", self._path(namespace, name))

    @staticmethod
    def _path(namespace: str, name: str = "") -> str:
        path = f"cron-workflows/{quote(namespace, safe='')}"
        return f"{path}/{quote(name, safe='')}" if name else path


class ArgoSchedules:
    """The CronWorkflows of a namespace (``schedules.Schedules``)."""

    def __init__(self, host: str | None = None, namespace: str | None = None) -> None:
        """``host`` is the address of Argo's server, else ARGO_SERVER's; without both the Kubernetes API is used.

        Raises:
            InvalidConfig: If no cluster is configured.
        """
        server = host or os.environ.get(SERVER_VARIABLE)
        self._client: _CronWorkflows = _Server(server) if server else _Kubernetes()
        self._namespace = namespace or os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE

    def create(self, name: str, pipeline: str, arguments: Mapping[str, Any], cron: Cron, timezone: str) -> Schedule:
        """Makes a CronWorkflow of the installed WorkflowTemplate ``visionloop-{pipeline}``.

        Raises:
            InvalidConfig: If there is no such template, it has no such parameter, or there is a CronWorkflow of that name.
        """
        refuse_placeholders(arguments)  # told before the cluster is asked for anything
        template_name = f"visionloop-{pipeline}"
        try:
            template = self._client.template(self._namespace, template_name)
        except Refused as error:
            raise InvalidConfig(
                f"The namespace {self._namespace} has no WorkflowTemplate {template_name} ({error}); install it with "
                "`kubectl apply -k` and an overlay, or correct --namespace."
            ) from error
        wanted = cron_workflow(name, self._namespace, template, arguments, cron, timezone)
        try:
            return _schedule(self._client.create_cron(self._namespace, wanted))
        except Refused as error:
            if error.status == 409:
                raise InvalidConfig(
                    f"The namespace {self._namespace} has a schedule {name} already; delete it first, or give another name."
                ) from error
            raise InvalidConfig(f"Argo refuses the schedule {name} ({error}).") from error

    def list(self) -> list[Schedule]:
        """Every CronWorkflow with Visionloop's label."""
        selector = ",".join(f"{label}={value}" for label, value in OURS.items())
        try:
            crons = self._client.crons(self._namespace, selector)
        except Refused as error:
            raise InvalidConfig(
                f"The namespace {self._namespace} shows no CronWorkflows ({error}); is Argo Workflows installed?"
            ) from error
        return sorted((_schedule(cron) for cron in crons), key=lambda schedule: schedule.name)

    def pause(self, name: str) -> None:
        """Suspends it; a run in progress is left alone."""
        self._change(name, lambda: self._client.suspend_cron(self._namespace, name, True))

    def resume(self, name: str) -> None:
        """Ends its suspension; the last start missed within the past hour is made up for."""
        self._change(name, lambda: self._client.suspend_cron(self._namespace, name, False))

    def delete(self, name: str) -> None:
        """Deletes it. The cluster's garbage collector deletes its workflows too; results stay in the workspace."""
        self._change(name, lambda: self._client.delete_cron(self._namespace, name))

    def _change(self, name: str, change: Any) -> None:
        missing = f"The namespace {self._namespace} has no schedule {name}; see `visionloop schedule list`."
        try:
            if not _is_ours(self._client.cron(self._namespace, name)):
                raise InvalidConfig(missing)
            change()
        except Refused as error:
            if error.status == 404:
                raise InvalidConfig(missing) from error
            raise InvalidConfig(f"Argo refuses to change the schedule {name} ({error}).") from error


def cron_workflow(
    name: str,
    namespace: str,
    template: Mapping[str, Any],
    arguments: Mapping[str, Any],
    cron: Cron,
    timezone: str,
) -> dict[str, Any]:
    """The CronWorkflow that starts a template at the times of an expression, never two runs at once.

    Args:
        name: Its name.
        namespace: Its namespace.
        template: The WorkflowTemplate as the cluster holds it.
        arguments: The pipeline's arguments by name.
        cron: When it starts a run.
        timezone: The IANA name of the time zone.

    Raises:
        InvalidConfig: If the template has no such parameter.
    """
    # A trace id belongs to one run: each makes its own.
    workflow = workflow_of(template, arguments, "")
    labels = {**workflow["metadata"]["labels"], **OURS, SCHEDULE_LABEL: name}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "schedules": [cron.text],
            "timezone": timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": LATEST_START_SECONDS,
            "successfulJobsHistoryLimit": KEPT_RUNS,
            "failedJobsHistoryLimit": KEPT_RUNS,
            "suspend": False,
            "workflowMetadata": {"labels": labels},
            "workflowSpec": workflow["spec"],
        },
    }


def _is_ours(cron: Mapping[str, Any]) -> bool:
    labels = cron["metadata"].get("labels") or {}
    return all(labels.get(label) == value for label, value in OURS.items())


def _schedule(cron: Mapping[str, Any]) -> Schedule:
    spec, status = cron["spec"], cron.get("status") or {}
    parameters = (spec["workflowSpec"].get("arguments") or {}).get("parameters") or ()
    arguments = {parameter["name"]: parameter.get("value") for parameter in parameters}
    expression = ", ".join(spec.get("schedules") or [spec.get("schedule", "")])
    paused = bool(spec.get("suspend"))
    timezone = spec.get("timezone")
    last = status.get("lastScheduledTime")
    return Schedule(
        name=str(cron["metadata"]["name"]),
        pipeline=str((spec["workflowSpec"].get("workflowTemplateRef") or {}).get("name", "")),
        cron=expression,
        timezone=timezone,
        state="paused" if paused else "active",
        last=datetime.fromisoformat(last) if last else None,
        next=next_time(expression, timezone, paused),
        model_name=arguments.get("model_name"),
    )
