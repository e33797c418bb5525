"""What an attempt gets by its number and by how the one before it ended, on a real Argo."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hera.workflows import Workflow
from kubernetes_cluster import Cluster, kubectl, steps, until

from visionloop.core import catalog
from visionloop.core.errors import RETRYABLE
from visionloop.core.policy import StagePolicy
from visionloop.pipelines.engines.argo.templates import RETRY_EXPRESSION, stage_template
from visionloop.pipelines.engines.argo.train import template_of
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

#: What the component ``other-node`` adds to a stage's retries.
OTHER_NODE: dict[str, Any] = {"nodeAntiAffinity": {}}

#: Ends its first attempt as it is told to, any other well.
ENDS = "import sys; sys.exit(int({code}) if sys.argv[1] == '0' else 0)"


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
    cluster.wait(name, 300, "Succeeded")
    result = attempts(cluster, name)
    assert [entry["nodeSelector"] for entry in result] == [{"kubernetes.io/os": "linux"}, {}, {}]
    assert [entry["resources"]["limits"]["memory"] for entry in result] == ["64Mi", "64Mi", "256Mi"]
    assert [entry["resources"]["requests"]["memory"] for entry in result] == ["32Mi", "32Mi", "128Mi"]
    assert [entry["exitCode"] for entry in result] == [143, 137, 0]


@pytest.mark.parametrize("code", [71, 75, 76, 124, 70, 79, 130])
def test_an_exit_code_decides_whether_the_next_attempt_comes(cluster: Cluster, code: int) -> None:
    """By train's installed retryStrategy, with a pause of a second."""
    installed = json.loads(
        kubectl("-n", cluster.namespace, "get", "workflowtemplate", template_of("train"), "-o", "json")
    )
    (train,) = [entry for entry in installed["spec"]["templates"] if entry["name"] == "train"]
    retries = train["retryStrategy"] | {"backoff": {"duration": "1s"}}
    name = submit(cluster, catalog.stage("snapshot").policy, ENDS.format(code=code), retries=retries)
    retried = code in RETRYABLE
    cluster.wait(name, 300, "Succeeded" if retried else "Failed")
    assert [entry["exitCode"] for entry in attempts(cluster, name)] == ([code, 0] if retried else [code])


def test_a_sick_node_is_left(cluster: Cluster) -> None:
    """The next attempt after 71, with what the component ``other-node`` adds to every retryStrategy."""
    nodes = [node for node in json.loads(kubectl("get", "nodes", "-o", "json"))["items"] if schedulable(node)]
    if len(nodes) < 2:
        pytest.skip(f"the cluster has {len(nodes)} node that is Ready and takes pods: another one takes two")
    retries = {"limit": "2", "retryPolicy": "Always", "expression": RETRY_EXPRESSION, "affinity": OTHER_NODE}
    name = submit(cluster, catalog.stage("snapshot").policy, ENDS.format(code=71), retries=retries)
    cluster.wait(name, 300, "Succeeded")
    first, second = attempts(cluster, name)
    assert (first["exitCode"], second["exitCode"]) == (71, 0)
    assert first["node"] != second["node"]


def test_a_pod_that_its_node_refuses_is_tried_again(cluster: Cluster) -> None:
    """As under disk pressure: the pod has failed, and none of its containers has an exit code."""
    nodes = [node for node in json.loads(kubectl("get", "nodes", "-o", "json"))["items"] if schedulable(node)]
    # Past the scheduler, to a node that has no such label: its kubelet refuses the pod.
    refused = "{{=int(retries) == 0 ? '\"visionloop/nowhere\": \"true\"' : ''}}"
    patch = f"nodeName: {nodes[0]['metadata']['name']}\nnodeSelector: {{ {refused} }}\n"
    name = submit(cluster, catalog.stage("snapshot").policy, "pass", patch=patch)
    ended = cluster.wait(name, 300, "Succeeded")
    first, second = steps(ended, "snapshot")
    assert first["phase"] == "Failed", cluster.account(ended)
    assert "exitCode" not in first.get("outputs", {}), cluster.account(ended)
    assert second["outputs"]["exitCode"] == "0"


def schedulable(node: dict[str, Any]) -> bool:
    """Whether a node is Ready and takes pods without a toleration."""
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"]["conditions"])
    return ready and not any(entry["effect"] != "PreferNoSchedule" for entry in node["spec"].get("taints", ()))


def test_a_drained_node_waits_for_the_stage_that_runs(cluster: Cluster) -> None:
    pipeline = json.loads(kubectl("-n", cluster.namespace, "get", "workflowtemplate", "visionloop-train", "-o", "json"))
    budget = pipeline["spec"]["podDisruptionBudget"]
    row = replace(catalog.stage("snapshot").policy, attempts=1)
    name = submit(cluster, row, "import time; time.sleep(600)", podDisruptionBudget=budget)
    namespace = ("-n", cluster.namespace)
    selector = ("-l", f"workflows.argoproj.io/workflow={name}")
    pod = cluster.running(name, "snapshot", 180)
    assert pod, cluster.account(cluster.workflow(name))
    # Before Kubernetes has counted the pod it refuses any eviction.
    counted = ("get", "poddisruptionbudgets", *namespace, *selector, "-o", "jsonpath={.items[*].status.currentHealthy}")
    until(lambda: kubectl(*counted) == "1", "the budget's count of the pod")
    # What a drain asks for, pod by pod.
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": cluster.namespace},
    }
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    with pytest.raises(AssertionError, match="would violate the pod's disruption budget"):
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    kubectl(*namespace, "delete", "workflow", name)
    listed = ("get", "poddisruptionbudgets", *namespace, *selector, "-o", "name")
    until(lambda: kubectl(*listed) == "", "the end of the budget with its workflow")


def submit(
    cluster: Cluster,
    row: StagePolicy,
    script: str,
    retries: dict[str, Any] | None = None,
    patch: str = "",
    **specification: Any,
) -> str:
    """Starts snapshot's template, by this row, with a script in it that is told the attempt; returns the workflow's name.

    ``retries`` takes the place of the row's own retryStrategy, ``patch`` is added to its patch of the pod.
    """
    with Workflow(generate_name="attempts-", namespace=cluster.namespace, entrypoint="snapshot") as workflow:
        stage_template(catalog.stage("snapshot"), row, placed(), outputs=())
    made = workflow.build().model_dump(mode="json", by_alias=True, exclude_none=True)
    (template,) = made["spec"]["templates"]
    attempt = "{{retries}}" if row.attempts > 1 else "0"
    template["container"] |= {"command": ["python", "-c"], "args": [script, attempt]}
    template["podSpecPatch"] += patch
    if retries:
        template["retryStrategy"] = retries
    # An entrypoint's inputs are filled from the arguments of the same name.
    arguments = {"parameters": [{"name": "workspace", "value": "file:///tmp/none"}]}
    return cluster.create("attempts-", **made["spec"], arguments=arguments, **specification)


def attempts(cluster: Cluster, workflow: str) -> list[dict[str, Any]]:
    """What each pod of a workflow was given, first try first."""
    results = []
    for pod in cluster.pods(workflow, "snapshot"):
        (main,) = [entry for entry in pod["spec"]["containers"] if entry["name"] == "main"]
        (state,) = [entry for entry in pod["status"]["containerStatuses"] if entry["name"] == "main"]
        results.append(
            {
                "nodeSelector": pod["spec"].get("nodeSelector", {}),
                "node": pod["spec"].get("nodeName"),
                "resources": main["resources"],
                "exitCode": state["state"]["terminated"]["exitCode"],
            }
        )
    return results
