"""Runs on Argo Workflows: a workflow made from the installed WorkflowTemplate, and its state."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import shlex
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from visionloop.components.calls import LOOP, SHARDED, STAGES
from visionloop.core import names
from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.data.datasets import parse_datasets
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo import Argo
from visionloop.pipelines.engines.argo.client import Client, Refused, connect
from visionloop.pipelines.following.record import open_record
from visionloop.pipelines.following.state import RemoteState, Step, in_order, of_shards
from visionloop.pipelines.parameters import SETTINGS
from visionloop.pipelines.targets import BY_TRAINER
from visionloop.training.configuration.settings import display

ENGINE = Argo.name

#: The namespace if neither ``--namespace`` nor Argo's own variable names one.
NAMESPACE = "visionloop"
NAMESPACE_VARIABLE = "ARGO_NAMESPACE"

_PHASES = {
    "": "pending",
    "Pending": "pending",
    "Running": "running",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Error": "failed",
}
_STATES = {
    "Pending": "waiting",
    "Running": "running",
    "Succeeded": "succeeded",
    "Skipped": "skipped",
    "Omitted": "skipped",
    "Failed": "failed",
    "Error": "failed",
}

#: Types of nodes that only group others.
_FRAMES = ("DAG", "Steps", "StepGroup", "TaskGroup")

#: Of several tasks of a stage (one for each trainer) the one with the first of these states counts.
_RANK = ("running", "failed", "waiting", "succeeded", "skipped")

#: The name of the task over a stage's shards, or of one of them: ``validate-shards(1:2/8)``.
_SHARD = re.compile(rf"\w+{LOOP}(?:\(\d+:\d+/(?P<count>\d+)\))?")

#: A failed container's message: its name, its exit code, and what it wrote to its termination log.
_FAILED = re.compile(r"(?:\w[\w-]*: )?Error \(exit code (?P<code>\d+)\)(?:: (?P<sentence>.*))?", re.DOTALL)


@dataclass(frozen=True)
class ArgoRun:
    """A workflow in a namespace (``state.RemoteRun``)."""

    client: Client
    namespace: str
    name: str
    run: str
    arguments: Mapping[str, Any]
    host: str | None = None
    engine: str = ENGINE

    @property
    def page(self) -> str | None:
        """The workflow's page, if Argo's server is known."""
        return self.client.page(self.namespace, self.name)

    def state(self) -> RemoteState:
        """Its state now.

        Raises:
            Transient: If the cluster does not answer.
            AccessDenied: If the caller may not see it.
            InvalidConfig: If it no longer exists.
        """
        return parse(_get(self.client, self.namespace, self.name), self._queued)

    def with_outputs(self, state: RemoteState) -> RemoteState:
        """The state itself: a workflow holds its steps' outputs."""
        return state

    def cancel(self) -> None:
        """Ends its pods at once; cleanup still runs.

        Raises:
            Transient: If the cluster does not answer.
            AccessDenied: If the caller may not end it.
            InvalidConfig: If it no longer exists.
        """
        try:
            self.client.shut_down(self.namespace, self.name)
        except Refused as error:
            raise InvalidConfig(
                f"The namespace {self.namespace} has no workflow {self.name} that can be ended ({error})."
            ) from error

    def follow_command(self) -> str:
        """The command that follows it again after detaching."""
        words = ["visionloop", "run", "follow", self.name, "--engine", ENGINE]
        if self.namespace != _namespace(None):
            words += ["--namespace", self.namespace]
        if self.host:
            words += ["--host", self.host]
        return shlex.join(words)

    def _queued(self, node: str) -> str | None:
        return self.client.queued(self.namespace, self.name, node)


def submit(
    pipeline: str,
    arguments: Mapping[str, Any],
    *,
    host: str | None = None,
    namespace: str | None = None,
    trace_id: str | None = None,
) -> ArgoRun:
    """Starts a workflow from the installed WorkflowTemplate.

    Args:
        pipeline: train or retrain.
        arguments: The pipeline's arguments by name; what the template does not declare is refused.
        host: The address of Argo's server, else ARGO_SERVER's; without both the Kubernetes API is used.
        namespace: The template's namespace, else ARGO_NAMESPACE's, else NAMESPACE.
        trace_id: The run's trace id, else TRACE_ID's, else a new one.

    Raises:
        InvalidConfig: If there is no cluster, no such template, or no such parameter.
        AccessDenied: If the caller may not start workflows there.
        Transient: If the cluster does not answer.
    """
    refuse_placeholders(arguments)  # told before a cluster is asked for anything
    client, target_namespace = connect(host), _namespace(namespace)
    template = _template(client, target_namespace, f"visionloop-{pipeline}")
    trace_id = trace_id or os.environ.get("TRACE_ID") or str(uuid.uuid4())
    workflow = workflow_of(template, arguments, trace_id)
    try:
        created = client.create(target_namespace, workflow)
    except Refused as error:
        raise InvalidConfig(f"Argo refuses the workflow ({error}).") from error
    run = _run_of(client, target_namespace, created, host)
    if reason := open_record(str(arguments["workspace"]), run.run, arguments, trace_id):
        notice(f"{arguments['workspace']}: the run's record can't be written from here ({reason})")
    return run


def find(run: str, *, host: str | None = None, namespace: str | None = None) -> ArgoRun:
    """A workflow that was started earlier, by its name.

    Raises:
        InvalidConfig: If there is no such workflow.
        AccessDenied: If the caller may not see it.
        Transient: If the cluster does not answer.
    """
    client, target_namespace = connect(host), _namespace(namespace)
    return _run_of(client, target_namespace, _get(client, target_namespace, run), host)


def workflow_of(template: Mapping[str, Any], arguments: Mapping[str, Any], trace_id: str) -> dict[str, Any]:
    """The workflow that runs a template with these arguments.

    Args:
        template: The WorkflowTemplate as the cluster holds it.
        arguments: Its arguments by name.
        trace_id: Goes into a label, and into the argument ``trace_id`` if the template has one.

    Raises:
        InvalidConfig: If the template declares no such parameter, or an argument has ``{{`` in it.
    """
    name = str(template["metadata"]["name"])
    declared = [parameter["name"] for parameter in template["spec"].get("arguments", {}).get("parameters") or ()]
    if unknown := sorted(set(arguments) - set(declared)):
        raise InvalidConfig(
            f"The installed {name} has no parameter '{unknown[0]}'; it takes {', '.join(declared)}: install the manifests of this version."
        )
    refuse_placeholders(arguments)
    values = {**arguments, **({"trace_id": trace_id} if "trace_id" in declared else {})}
    labels = {"workflows.argoproj.io/workflow-template": name}
    datasets = parse_datasets(arguments["dataset"]) if arguments.get("dataset") else ()
    other = str(arguments.get("snapshot") or arguments.get("images") or "").rstrip("/").rpartition("/")[2]
    source = "-".join(dataset.name for dataset in datasets) or other
    for label, value in ((pods.TRACE_LABEL, trace_id), (pods.DATASET_LABEL, source)):
        # A name that sanitises to nothing gets no label; the run's argument holds it anyway.
        with contextlib.suppress(InvalidConfig):
            labels[label] = names.sanitise(value)
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{name}-", "labels": labels},
        "spec": {
            "workflowTemplateRef": {"name": name},
            "arguments": {
                "parameters": [
                    {"name": name, "value": text(value)} for name, value in values.items() if value is not None
                ]
            },
        },
    }


def refuse_placeholders(arguments: Mapping[str, Any]) -> None:
    """Refuses an argument with ``{{``, which Argo would replace before a stage sees it; a ``}}`` alone is JSON's.

    Raises:
        InvalidConfig: If there is one; it names the option.
    """
    for name, value in arguments.items():
        if "{{" not in text(value):
            continue
        option = "--set" if name in (*SETTINGS, "advanced_config") else f"--{name.replace('_', '-')}"
        raise InvalidConfig(f"{option} {text(value)}: Argo replaces {{{{…}}}} in an argument; write it without '{{{{'.")


def text(value: Any) -> str:
    """An argument as Argo holds it: text as it is, objects as JSON, anything else as a form shows it."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list)) else display(value)


def parse(workflow: Mapping[str, Any], queued: Callable[[str], str | None] = lambda node: None) -> RemoteState:
    """The state of a workflow (https://argo-workflows.readthedocs.io/en/latest/fields/#workflowstatus).

    Args:
        workflow: The workflow as the cluster holds it.
        queued: Returns why a queue holds back the pod of a waiting node, from the node's id.
    """
    status = workflow.get("status") or {}
    phase = _PHASES.get(status.get("phase", ""), "running")
    if phase in ("succeeded", "failed") and not status.get("finishedAt"):
        phase = "running"
    if phase == "failed" and workflow.get("spec", {}).get("shutdown"):
        phase = "stopped"
    return RemoteState(phase, _steps(_nodes(status), queued), status.get("message"))


def _nodes(status: Mapping[str, Any]) -> dict[str, Any]:
    if packed := status.get("compressedNodes"):
        return dict(json.loads(gzip.decompress(base64.b64decode(packed))))
    return dict(status.get("nodes") or {})


def _steps(nodes: Mapping[str, Any], queued: Callable[[str], str | None]) -> tuple[Step, ...]:
    tries = {child for node in nodes.values() if node["type"] == "Retry" for child in node.get("children") or ()}
    steps: dict[str, Step] = {}
    parts: dict[str, list[Step]] = {}
    counts: dict[str, int] = {}
    for identity, node in nodes.items():
        if identity in tries or node["type"] in _FRAMES:
            continue
        step = _step(node, nodes, queued)
        if (shard := _SHARD.fullmatch(str(node["displayName"]))) and step.stage in SHARDED:
            if shard["count"]:  # else there are none, and the task over them is skipped
                parts.setdefault(step.stage, []).append(step)
                counts[step.stage] = int(shard["count"])
            continue
        if node["type"] == "Skipped" and step.stage not in STAGES:
            # A whole part of the pipeline that was skipped is not a stage.
            continue
        if step.stage not in steps or _RANK.index(step.state) < _RANK.index(steps[step.stage].state):
            steps[step.stage] = step
    for stage, shards in parts.items():
        steps[stage] = of_shards(steps.get(stage), shards, counts[stage])
    return in_order(steps.values(), STAGES)


def _stage(node: Mapping[str, Any]) -> str:
    """The stage of a node: its template's name, else its task's, which ends with its trainer's name for some stages."""
    template = str(node.get("templateName") or (node.get("templateRef") or {}).get("template") or node["displayName"])
    stage, _, trainer = template.partition("-")
    return stage if trainer and stage in BY_TRAINER else template


def _step(node: Mapping[str, Any], nodes: Mapping[str, Any], queued: Callable[[str], str | None]) -> Step:
    pods = (
        [nodes[child] for child in node.get("children") or () if child in nodes] if node["type"] == "Retry" else [node]
    )
    last = max(pods, key=_number, default=node)
    state = _STATES.get(node.get("phase", ""), "running")
    message, code = _message_and_code(last)
    reason = message if state == "failed" else None
    if state == "running" and last is not node:
        state, reason = _between(node, last, message)
    if state == "waiting":
        reason = _waits_for(last) or reason or queued(str(last["id"]))
    return Step(
        stage=_stage(node),
        state=state,
        attempt=max(1, len(pods)),
        reason=reason,
        progress=last.get("progress"),
        started_at=_time(node.get("startedAt")),
        finished_at=_time(node.get("finishedAt")),
        exit_code=code,
        outputs={
            parameter["name"]: str(parameter.get("value", ""))
            for parameter in (node.get("outputs") or {}).get("parameters") or ()
        },
    )


def _number(pod: Mapping[str, Any]) -> int:
    """Which attempt a pod is: ``train(2)`` is the third."""
    matched = re.search(r"\((\d+)\)$", str(pod.get("displayName", "")))
    return int(matched[1]) if matched else 0


def _between(node: Mapping[str, Any], last: Mapping[str, Any], message: str | None) -> tuple[str, str | None]:
    """The state of a stage that may be retried, and its reason: those of its last pod, or waiting if that pod failed."""
    state = _STATES.get(last.get("phase", ""), "running")
    if state == "failed":
        return "waiting", "; ".join(part for part in (message, node.get("message")) if part) or None
    return ("running", None) if state == "succeeded" else (state, message if state == "waiting" else None)


def _waits_for(node: Mapping[str, Any]) -> str | None:
    """Describes the lock that a node waits for; None if there is none."""
    lock = (node.get("synchronizationStatus") or {}).get("waiting")
    if not lock:
        return None
    return f"another run holds the lock {str(lock).rsplit('/', 1)[-1]}"


def _message_and_code(pod: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """A pod's message and exit code, without the engine's words around a stage's own sentence."""
    message = pod.get("message")
    code = (pod.get("outputs") or {}).get("exitCode")
    if message and (matched := _FAILED.fullmatch(message)):
        return matched["sentence"] or message, int(matched["code"])
    return message or None, int(code) if code is not None and str(code).lstrip("-").isdigit() else None


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _namespace(name: str | None) -> str:
    return name or os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE


def _template(client: Client, namespace: str, name: str) -> dict[str, Any]:
    try:
        return client.template(namespace, name)
    except Refused as error:
        raise InvalidConfig(
            f"The namespace {namespace} has no WorkflowTemplate {name} ({error}); install it with "
            "`kubectl apply -k` and an overlay, or correct --namespace."
        ) from error


def _get(client: Client, namespace: str, name: str) -> dict[str, Any]:
    try:
        return client.workflow(namespace, name)
    except Refused as error:
        raise InvalidConfig(
            f"The namespace {namespace} has no workflow {name} ({error}); finished ones are removed after a while."
        ) from error


def _run_of(client: Client, namespace: str, workflow: Mapping[str, Any], host: str | None) -> ArgoRun:
    metadata = workflow["metadata"]
    # The template's values apply where the workflow itself has none, as in a scheduled one.
    stored = (workflow.get("status") or {}).get("storedWorkflowTemplateSpec") or {}
    arguments = {
        parameter["name"]: parameter.get("value", "")
        for spec in (stored, workflow["spec"])
        for parameter in (spec.get("arguments") or {}).get("parameters") or ()
    }
    return ArgoRun(client, namespace, str(metadata["name"]), str(metadata["uid"]), arguments, host)
