"""Rights, quota, Pod Security, queue and network policies of an installation, asked of the API server itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import HOST, KUBECONFIG, MANIFESTS, OPENED, STAGE_IMAGE, Cluster, kubectl

from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines import pods

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

#: Read before any test's clean environment takes it away.
ENFORCED = os.environ.get("VISIONLOOP_CLUSTER_ENFORCES")

STAGE_ACCOUNTS = sorted({pods.service_account(stage) for stage in POLICIES})

#: Whose token Argo's own containers have, and the stage's container has not.
EXECUTOR = pods.EXECUTOR_ACCOUNT
SUBMIT = "visionloop-submit"

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def can(cluster: Cluster, account: str, verb: str, resource: str, namespace: str | None = None) -> bool:
    who = f"--as=system:serviceaccount:{cluster.namespace}:{account}"
    command = ["kubectl", "-n", namespace or cluster.namespace, "auth", "can-i", verb, resource, who]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "KUBECONFIG": str(KUBECONFIG)}
    )
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    return done.stdout.strip() == "yes"


def test_argos_own_containers_report_a_steps_outputs(cluster: Cluster) -> None:
    for verb in ("create", "patch"):
        assert can(cluster, EXECUTOR, verb, "workflowtaskresults.argoproj.io")


@pytest.mark.parametrize("account", STAGE_ACCOUNTS)
def test_a_stage_itself_may_not_even_report(cluster: Cluster, account: str) -> None:
    assert not can(cluster, account, "create", "workflowtaskresults.argoproj.io")


@pytest.mark.parametrize("account", [*STAGE_ACCOUNTS, EXECUTOR])
def test_no_pods_account_does_anything_else(cluster: Cluster, account: str) -> None:
    for verb, resource in (
        ("create", "workflows.argoproj.io"),
        ("get", "workflows.argoproj.io"),
        ("list", "secrets"),
        ("get", "secrets"),
        ("get", "configmaps"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("delete", "workflowtaskresults.argoproj.io"),
    ):
        assert not can(cluster, account, verb, resource), f"{account} may {verb} {resource}"


def test_who_submits_may_start_and_watch_runs_and_nothing_else(cluster: Cluster) -> None:
    for verb in ("create", "get", "list", "watch"):
        assert can(cluster, SUBMIT, verb, "workflows.argoproj.io")
    for verb, resource in (
        ("delete", "workflows.argoproj.io"),
        ("update", "workflowtemplates.argoproj.io"),
        ("create", "workflowtaskresults.argoproj.io"),
        ("get", "secrets"),
        ("create", "pods"),
    ):
        assert not can(cluster, SUBMIT, verb, resource), f"{SUBMIT} may {verb} {resource}"


@pytest.mark.parametrize("account", [*STAGE_ACCOUNTS, EXECUTOR, SUBMIT])
def test_no_account_may_do_anything_in_another_namespace(cluster: Cluster, account: str) -> None:
    for verb, resource in (("create", "workflows.argoproj.io"), ("create", "workflowtaskresults.argoproj.io")):
        assert not can(cluster, account, verb, resource, namespace="default")


def pod(image: str = STAGE_IMAGE, **container: Any) -> dict[str, Any]:
    """A pod that passes, but for what is given."""
    security: dict[str, Any] = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    main = {"name": "main", "image": image, "command": ["python", "-c", "pass"], "securityContext": RESTRICTED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "tried-"},
        "spec": {"restartPolicy": "Never", "securityContext": security, "containers": [main | container]},
    }


def refusal(cluster: Cluster, wanted: dict[str, Any]) -> str:
    """What the API server says to a pod; nothing is made of one that it would take."""
    done = subprocess.run(
        ["kubectl", "-n", cluster.namespace, "create", "--dry-run=server", "-f", "-"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
    )
    return done.stderr if done.returncode else ""


def test_a_pod_that_asks_for_no_more_than_it_may_is_taken(cluster: Cluster) -> None:
    assert refusal(cluster, pod()) == ""


@pytest.mark.parametrize(
    "resources",
    [
        {"requests": {"cpu": "17"}, "limits": {"cpu": "17"}},
        {"requests": {"memory": "65Gi"}, "limits": {"memory": "65Gi"}},
        {"limits": {"memory": "97Gi"}},
    ],
)
def test_a_pod_over_the_quota_is_refused(cluster: Cluster, resources: dict[str, Any]) -> None:
    assert "exceeded quota: visionloop" in refusal(cluster, pod(resources=resources))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("privileged", True),
        ("allowPrivilegeEscalation", True),
        ("runAsUser", 0),
        ("runAsNonRoot", False),
        ("capabilities", {"drop": []}),
        ("capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ("seccompProfile", {"type": "Unconfined"}),
    ],
)
def test_a_pod_with_more_than_restricted_allows_is_refused(cluster: Cluster, field: str, value: Any) -> None:
    said = refusal(cluster, pod(securityContext=RESTRICTED | {field: value}))
    assert 'violates PodSecurity "restricted' in said or "privileged" in said


def test_a_folder_of_the_node_is_refused(cluster: Cluster) -> None:
    wanted = pod()
    wanted["spec"]["volumes"] = [{"name": "node", "hostPath": {"path": "/"}}]
    assert "hostPath" in refusal(cluster, wanted)


def test_a_container_without_figures_gets_some(cluster: Cluster) -> None:
    made = kubectl(
        "-n", cluster.namespace, "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod())
    )
    resources = json.loads(made)["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}


def test_the_api_server_takes_what_production_applies(cluster: Cluster, tmp_path: Path) -> None:
    """Against the schemas of Kubernetes and Argo; nothing is made of it."""
    overlay = os.path.relpath(MANIFESTS / "overlays" / "production", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"namespace: {cluster.namespace}\nresources: [{overlay}]\n")
    applied = kubectl("apply", "--dry-run=server", "-k", str(tmp_path))
    for name in ("visionloop-short", "visionloop-training"):
        assert f"priorityclass.scheduling.k8s.io/{name} " in applied
    assert "workflowtemplate.argoproj.io/visionloop-train " in applied


def egress(cluster: Cluster, stage: str) -> set[int]:
    """The TCP ports that the manifests' policies leave open to a stage's pods."""
    result = json.loads(kubectl("-n", cluster.namespace, "get", "networkpolicies", "-o", "json"))["items"]
    ports: set[int] = set()
    for policy in result:
        if policy["metadata"]["name"] == OPENED:
            continue
        if "Egress" in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pods.labels(stage)):
            for rule in policy["spec"].get("egress", ()):
                ports |= {entry["port"] for entry in rule["ports"] if entry["protocol"] == "TCP"}
    return ports


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    plain = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    listed = (labels.get(entry["key"]) in entry["values"] for entry in selector.get("matchExpressions", ()))
    return plain and all(listed)


@pytest.mark.parametrize("stage", sorted(POLICIES))
def test_each_stage_reaches_names_api_and_stores_and_the_tracker_where_it_needs_it(
    cluster: Cluster, stage: str
) -> None:
    needed = {53, 443, 6443, 8333, 9000}
    tracked = {5000} if stage != "validate" else set()
    assert egress(cluster, stage) - {443} == (needed | tracked) - {443}


def test_whatever_is_not_named_is_denied_in_both_directions(cluster: Cluster) -> None:
    deny = json.loads(kubectl("-n", cluster.namespace, "get", "networkpolicy", "visionloop-deny", "-o", "json"))
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_pod_without_a_stage_reaches_no_store(cluster: Cluster) -> None:
    if not ENFORCED:
        pytest.skip("VISIONLOOP_CLUSTER_ENFORCES is not set: nobody says that this cluster enforces NetworkPolicies")
    port = int(str(cluster.services.host_endpoint).rsplit(":", 1)[1])
    wanted = pod(command=["python", "-c", f"import socket; socket.create_connection(('{HOST}', {port}), timeout=10)"])
    name = kubectl("-n", cluster.namespace, "create", "-o", "name", "-f", "-", stdin=json.dumps(wanted)).strip()
    kubectl("-n", cluster.namespace, "wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=120s", name)


def test_a_training_waits_until_its_queue_admits_it(cluster: Cluster) -> None:
    if "localqueues.kueue.x-k8s.io" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("the cluster has no Kueue: its CRDs are missing")
    queue = yaml.safe_load((MANIFESTS / "components" / "kueue" / "local-queue.yaml").read_text())
    # The cluster's own ClusterQueue is not there in this test: nothing is admitted.
    queue["spec"]["clusterQueue"] = f"{cluster.namespace}-nothing"
    cluster.apply(queue)
    wanted = pod()
    wanted["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": queue["metadata"]["name"]}
    made = kubectl("-n", cluster.namespace, "create", "-o", "json", "-f", "-", stdin=json.dumps(wanted))
    gates = [gate["name"] for gate in json.loads(made)["spec"].get("schedulingGates", ())]
    assert "kueue.x-k8s.io/admission" in gates
