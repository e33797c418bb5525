"""A namespace of a real cluster with the overlay ``kind`` in it, and an embedded S3 and MLflow that its pods reach.

KUBECONFIG names the cluster, VISIONLOOP_CLUSTER_HOST the address of this machine on which pods reach it. The images of
``make images`` must be in the cluster already.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.pipelines import services

MANIFESTS = Path(__file__).parents[2] / "manifests"

#: The network policy of the tests themselves, beside those of the manifests.
OPENED = "visionloop-test-machine"

#: Read before any test's clean environment takes them away.
KUBECONFIG = os.environ.get("KUBECONFIG")
HOST = os.environ.get("VISIONLOOP_CLUSTER_HOST")


def kubectl(*words: str, stdin: str | None = None) -> str:
    """What kubectl prints; its error fails the test."""
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}
    done = subprocess.run(
        ["kubectl", *words], input=stdin, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """A namespace to run workflows in."""

    namespace: str
    services: services.Services

    def apply(self, *objects: dict[str, Any]) -> None:
        """Applies objects to the namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        kubectl("-n", self.namespace, "apply", "-f", "-", stdin=json.dumps(listed))

    def submit(self, pod_spec_patch: str | None = None, **parameters: str) -> str:
        """Starts a training, with a patch of every pod, and returns the workflow's name."""
        patched = {"podSpecPatch": pod_spec_patch} if pod_spec_patch else {}
        workflow = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": "test-", "namespace": self.namespace},
            "spec": {
                **patched,
                "workflowTemplateRef": {"name": "visionloop-train"},
                "arguments": {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]},
            },
        }
        made = kubectl("create", "-o", "name", "-f", "-", stdin=json.dumps(workflow))
        return made.strip().rsplit("/", 1)[-1]

    def workflow(self, name: str) -> dict[str, Any]:
        """A workflow as the cluster holds it."""
        return dict(json.loads(kubectl("-n", self.namespace, "get", "workflow", name, "-o", "json")))

    def wait(self, name: str, seconds: float = 900) -> dict[str, Any]:
        """Waits for a workflow's end, its exit handler's too."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.workflow(name)
            if found.get("status", {}).get("phase") in ("Succeeded", "Failed", "Error") and found["status"].get(
                "finishedAt"
            ):
                return found
            time.sleep(2)
        raise AssertionError(f"{name} did not end within {seconds:g} s")
