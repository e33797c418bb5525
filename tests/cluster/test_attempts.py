"""What an attempt gets by its number and by how the one before it ended, on a real Argo."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hera.workflows import Workflow
from kubernetes_cluster import Cluster, kubectl

from visionloop.components import catalog
from visionloop.components.policy import StagePolicy
from visionloop.pipelines import pods
from visionloop.pipelines.argo import stage_template
from visionloop.pipelines.targets import cluster as placed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

#: Asked to end in its first attempt, uses up its memory in the second, and ends well with four times as much.
SCRIPT = """
import os, sys
attempt = int(sys.argv[1])
if attempt == 0:
    sys.exit(143)
if attempt == 1:
    held = bytearray(os.urandom(2**20) * 200)
"""


def test_a_lost_spot_node_is_left_and_a_kill_for_memory_gives_more(cluster: Cluster) -> None:
    stage = catalog.stage("snapshot")
    row = replace(
        stage.policy,
        memory_request="32Mi",
        memory_limit="64Mi",
        spot_losses=1,
        # Any node will do; what counts is who asks for it.
        spot_selector=(("kubernetes.io/os", "linux"),),
    )
    name = submit(cluster, row, SCRIPT)
    ended = cluster.wait(name, 300)
    assert ended["status"]["phase"] == "Succeeded", ended["status"].get("message")
    found = attempts(cluster, name)
    assert [one["nodeSelector"] for one in found] == [{"kubernetes.io/os": "linux"}, {}, {}]
    assert [one["resources"]["limits"]["memory"] for one in found] == ["64Mi", "64Mi", "256Mi"]
    assert [one["resources"]["requests"]["memory"] for one in found] == ["32Mi", "32Mi", "128Mi"]
    assert [one["exitCode"] for one in found] == [143, 137, 0]


def test_a_drained_node_waits_for_the_stage_that_runs(cluster: Cluster) -> None:
    pipeline = json.loads(kubectl("-n", cluster.namespace, "get", "workflowtemplate", "visionloop-train", "-o", "json"))
    budget = pipeline["spec"]["podDisruptionBudget"]
    row = replace(catalog.stage("snapshot").policy, attempts=1)
    name = submit(cluster, row, "import time; time.sleep(600)", podDisruptionBudget=budget)
    place = ("-n", cluster.namespace)
    selector = ("-l", f"workflows.argoproj.io/workflow={name}")
    pod = ""
    for _ in range(120):
        words = ("get", "pods", *place, *selector, "--field-selector=status.phase=Running", "-o", "name")
        if found := kubectl(*words).split():
            pod = found[0].removeprefix("pod/")
            break
        time.sleep(1)
    assert pod
    # What a drain asks for, pod by pod.
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": cluster.namespace},
    }
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    with pytest.raises(AssertionError, match="disruption budget"):
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    kubectl(*place, "delete", "workflow", name)
    assert kubectl(*place, "get", "poddisruptionbudgets", *selector, "-o", "name") == ""


def submit(cluster: Cluster, row: StagePolicy, script: str, **specification: Any) -> str:
    """Starts snapshot's template, by this row, with a script in it that is told the attempt; returns the workflow's name."""
    with Workflow(generate_name="attempts-", namespace=cluster.namespace, entrypoint="snapshot") as workflow:
        stage_template(catalog.stage("snapshot"), row, placed(), outputs=())
    made = workflow.build().model_dump(mode="json", by_alias=True, exclude_none=True)
    (template,) = made["spec"]["templates"]
    attempt = "{{retries}}" if row.attempts > 1 else "0"
    template["container"] |= {"command": ["python", "-c"], "args": [script, attempt]}
    made["spec"] |= specification
    # An entrypoint's inputs are filled from the arguments of the same name.
    made["spec"]["arguments"] = {"parameters": [{"name": "workspace", "value": "file:///tmp/none"}]}
    return kubectl("create", "-o", "name", "-f", "-", stdin=json.dumps(made)).strip().rsplit("/", 1)[-1]


def attempts(cluster: Cluster, workflow: str) -> list[dict[str, Any]]:
    """What each pod of a workflow was given, first try first."""
    selector = f"workflows.argoproj.io/workflow={workflow},{pods.STAGE_LABEL}=snapshot"
    listed = json.loads(kubectl("-n", cluster.namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
    found = []
    for pod in sorted(listed, key=lambda one: str(one["status"]["startTime"])):
        (main,) = [one for one in pod["spec"]["containers"] if one["name"] == "main"]
        (state,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == "main"]
        found.append(
            {
                "nodeSelector": pod["spec"].get("nodeSelector", {}),
                "resources": main["resources"],
                "exitCode": state["state"]["terminated"]["exitCode"],
            }
        )
    return found
