"""A namespace of a real cluster with the overlay ``kind`` in it, and an embedded S3 and MLflow that its pods reach.

KUBECONFIG names the cluster, VISIONLOOP_CLUSTER_HOST the address of this machine on which pods reach it. The images of
``make images`` must be in the cluster already.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from visionloop.core import secrets
from visionloop.pipelines import services
from visionloop.pipelines.engines.pods import STAGE_LABEL

MANIFESTS = Path(__file__).parents[2] / "manifests"

#: The network policy of the tests themselves, besides those of the manifests.
OPENED = "visionloop-test-machine"

#: Read before any test's clean environment takes them away.
KUBECONFIG = os.environ.get("KUBECONFIG")
HOST = os.environ.get("VISIONLOOP_CLUSTER_HOST")

#: The data stages' image, as `make images` names it.
STAGE_IMAGE = f"localhost/visionloop-stage:{metadata.version('visionloop')}"


def kubectl(*words: str, stdin: str | None = None) -> str:
    """What kubectl prints; its error fails the test."""
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}
    done = subprocess.run(
        ["kubectl", *words], input=stdin, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def secrets_and_config(variables: Mapping[str, str], namespace: str | None = None) -> list[dict[str, Any]]:
    """The objects that pods take these variables from: a Secret for each role, and the ConfigMap."""
    placed = {"namespace": namespace} if namespace else {}
    objects: list[dict[str, Any]] = []
    for role in secrets.ROLES:
        held = {name: variables[name] for name in secrets.variables(role) if name in variables}
        metadata = {"name": secrets.secret_of(role), **placed}
        objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": held})
    existing = {entry.name for entry in secrets.CREDENTIALS}
    data = {name: value for name, value in variables.items() if name not in existing}
    metadata = {"name": "visionloop", **placed}
    return [*objects, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]


@dataclass(frozen=True)
class Cluster:
    """A namespace to run workflows in."""

    namespace: str
    services: services.Services

    def apply(self, *objects: dict[str, Any]) -> None:
        """Applies objects to the namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        kubectl("-n", self.namespace, "apply", "-f", "-", stdin=json.dumps(listed))

    def create(self, prefix: str, **specification: Any) -> str:
        """Starts a workflow that is written out, and returns its name: the prefix and what Kubernetes adds."""
        workflow = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": prefix, "namespace": self.namespace},
            "spec": specification,
        }
        made = kubectl("create", "-o", "name", "-f", "-", stdin=json.dumps(workflow))
        return made.strip().rsplit("/", 1)[-1]

    def submit(
        self, template: str = "visionloop-train", /, pod_spec_patch: str | None = None, **parameters: str
    ) -> str:
        """Starts a WorkflowTemplate, with a patch of every pod, and returns the workflow's name."""
        patched = {"podSpecPatch": pod_spec_patch} if pod_spec_patch else {}
        arguments = {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]}
        return self.create("test-", workflowTemplateRef={"name": template}, arguments=arguments, **patched)

    def workflow(self, name: str) -> dict[str, Any]:
        """A workflow as the cluster holds it."""
        return dict(json.loads(kubectl("-n", self.namespace, "get", "workflow", name, "-o", "json")))

    def pods(self, workflow: str, stage: str | None = None) -> list[dict[str, Any]]:
        """A workflow's pods that the cluster still holds, of one stage or of all, the first one made first."""
        selector = f"workflows.argoproj.io/workflow={workflow}" + (f",{STAGE_LABEL}={stage}" if stage else "")
        result = json.loads(kubectl("-n", self.namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
        return sorted(result, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def running(self, workflow: str, stage: str, seconds: float = 600) -> str | None:
        """The name of a stage's pod, once it runs; None if the workflow is over before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for pod in self.pods(workflow, stage):
                if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    return str(pod["metadata"]["name"])
            if self.workflow(workflow).get("status", {}).get("finishedAt"):
                return None
            time.sleep(1)
        raise AssertionError(f"no pod of {stage} ran within {seconds:g} s\n{self.account(self.workflow(workflow))}")

    def wait(self, name: str, seconds: float = 900, phase: str | None = None) -> dict[str, Any]:
        """Waits for a workflow's end, its exit handler's too; a phase that is given must be that of its end."""
        end = time.monotonic() + seconds
        results: dict[str, Any] = {}
        while time.monotonic() < end:
            results = self.workflow(name)
            status = results.get("status", {})
            if status.get("phase") in ("Succeeded", "Failed", "Error") and status.get("finishedAt"):
                assert phase in (None, status["phase"]), self.account(results)
                return results
            time.sleep(2)
        raise AssertionError(f"{name} did not end within {seconds:g} s\n{self.account(results)}")

    def account(self, workflow: dict[str, Any]) -> str:
        """What happened in a workflow: its steps' pods as Argo reports them, then those that the cluster still holds."""
        status = workflow.get("status", {})
        lines = [f"{workflow['metadata']['name']}: {status.get('phase')}, {status.get('message', 'no message')}"]
        for node in steps(workflow):
            code = node.get("outputs", {}).get("exitCode", "none")
            line = f"{node['phase']}, exit code {code}, {node.get('message', 'no message')}"
            lines.append(f"  {node['displayName']}, {node.get('startedAt')} to {node.get('finishedAt')}: {line}")
        for pod in self.pods(workflow["metadata"]["name"]):
            state = pod["status"]
            of_all = [*state.get("initContainerStatuses", ()), *state.get("containerStatuses", ())]
            ended = {entry["name"]: entry["state"].get("terminated", entry["state"]) for entry in of_all}
            ends = {
                name: {key: entry.get(key) for key in ("reason", "exitCode", "message")}
                for name, entry in ended.items()
            }
            reason = f"{state.get('reason', 'no reason')}, {state.get('message', 'no message')}"
            lines.append(f"  pod {pod['metadata']['name']}: {state.get('phase')}, {reason}, {json.dumps(ends)}")
        return "\n".join(lines)


def steps(workflow: dict[str, Any], template: str | None = None) -> list[dict[str, Any]]:
    """The nodes of the pods that a workflow ran, of one template or of all, first try first."""
    nodes = [node for node in workflow.get("status", {}).get("nodes", {}).values() if node["type"] == "Pod"]
    return sorted(
        (node for node in nodes if template in (None, template_of(node))), key=lambda node: str(node.get("startedAt"))
    )


def template_of(node: dict[str, Any]) -> str:
    """The name of the template that a node ran, be it of its own workflow's or of another WorkflowTemplate."""
    return str(node.get("templateName") or node["templateRef"]["template"])


def outputs(node: dict[str, Any]) -> dict[str, str]:
    """A node's output parameters."""
    return {entry["name"]: entry["value"] for entry in node.get("outputs", {}).get("parameters", ())}


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Waits for a condition to hold, and returns what it gave."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(1)
    return result
