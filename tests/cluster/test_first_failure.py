"""What only the engine knows of a failure reaches the exit handler: the compiled expression on a real Argo."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_cluster import Cluster, kubectl

from visionloop.components.policy import POLICIES
from visionloop.pipelines.argo import pod_spec_patch
from visionloop.pipelines.train.argo import FIRST_FAILURE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def told(cluster: Cluster, command: list[str]) -> str:
    """What the exit handler of a one-step workflow is told."""
    pod: dict[str, Any] = {
        "image": "localhost/visionloop-stage:0.1.0",
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    parameter = {"name": "failure", "value": f"{{{{={FIRST_FAILURE}}}}}"}
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "failure-", "namespace": cluster.namespace},
        "spec": {
            "serviceAccountName": "visionloop-data",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "entrypoint": "pipeline",
            "onExit": "exit",
            "templates": [
                {"name": "pipeline", "dag": {"tasks": [{"name": "only", "template": "only"}]}},
                {
                    "name": "only",
                    "container": pod,
                    "podSpecPatch": pod_spec_patch(replace(POLICIES["cleanup"], attempts=1)),
                },
                {
                    "name": "exit",
                    "steps": [[{"name": "tell", "template": "tell", "arguments": {"parameters": [parameter]}}]],
                },
                {"name": "tell", "inputs": {"parameters": [{"name": "failure"}]}, "suspend": {"duration": "0s"}},
            ],
        },
    }
    made = kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(manifest)).strip()
    ended = cluster.wait(made.rpartition("/")[2])
    (tell,) = (node for node in ended["status"]["nodes"].values() if node["displayName"] == "tell")
    return str(tell["inputs"]["parameters"][0].get("value", ""))


def test_the_first_failed_step_is_told_with_the_engines_words(cluster: Cluster) -> None:
    said = 'a "quoted" {{word}} ' + "y" * 900
    text = told(cluster, ["python3", "-c", f"open('/dev/termination-log', 'w').write({said!r}); raise SystemExit(3)"])
    assert text.startswith('only: main: Error (exit code 3): a "quoted" {{word}} yyy')
    assert len(text) == 500


def test_of_a_run_that_succeeded_nothing_is_told(cluster: Cluster) -> None:
    assert told(cluster, ["true"]) == ""
