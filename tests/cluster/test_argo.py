"""The train workflow on a real Argo, with the real images, under Pod Security ``restricted``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes_cluster import Cluster, kubectl

from visionloop.components.names import sanitise
from visionloop.components.receipts import load
from visionloop.pipelines.argo import SANITISED
from visionloop.pipelines.pods import GPU, STAGE_LABEL
from visionloop.pipelines.targets import STAGES

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SETTINGS = {
    "workspace": "s3://visionloop/argo",
    "model_name": "Tiny Digits",
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": "2",
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
}


#: Argo's own container tells the controller of progress once a minute, and a training here may be shorter.
AT_ONCE = """
containers:
- name: wait
  env:
  - {name: ARGO_PROGRESS_FILE_TICK_DURATION, value: 1s}
  - {name: ARGO_PROGRESS_PATCH_TICK_DURATION, value: 1s}
"""


def steps(workflow: dict[str, Any], template: str) -> list[dict[str, Any]]:
    """The pods that a workflow ran for a stage, first try first."""
    nodes = [node for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"]
    found = [node for node in nodes if (node.get("templateName") or node["templateRef"]["template"]) == template]
    return sorted(found, key=lambda node: str(node["startedAt"]))


def outputs(node: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in node["outputs"]["parameters"]}


@pytest.fixture(scope="module")
def trained(cluster: Cluster, dataset: str) -> dict[str, Any]:
    return cluster.wait(cluster.submit(AT_ONCE, dataset=dataset, trace_id="Of this test", **SETTINGS))


def test_a_run_ends_with_a_registered_champion(trained: dict[str, Any]) -> None:
    assert trained["status"]["phase"] == "Succeeded", trained["status"].get("message")
    (register,) = steps(trained, "register")
    assert {name: outputs(register)[name] for name in ("version", "alias")} == {"version": "1", "alias": "champion"}
    assert len(steps(trained, "cleanup")) == 1


def test_argo_counts_the_epochs(trained: dict[str, Any]) -> None:
    (train,) = steps(trained, "train")
    assert train["progress"] == "2/2"


def test_a_second_run_starts_no_pod_for_training(cluster: Cluster, trained: dict[str, Any], dataset: str) -> None:
    again = cluster.wait(cluster.submit(dataset=dataset, **SETTINGS))
    assert again["status"]["phase"] == "Succeeded"
    assert steps(again, "train") == steps(again, "evaluate") == []
    assert outputs(steps(again, "register")[0]) == outputs(steps(trained, "register")[0])


def test_wrong_data_ends_at_once_with_its_sentence(cluster: Cluster) -> None:
    failed = cluster.wait(cluster.submit(dataset="s3://datasets/nothing", **SETTINGS))
    assert failed["status"]["phase"] == "Failed"
    (snapshot,) = steps(failed, "snapshot")
    assert "Error (exit code 65): s3://datasets/nothing: no dataset lies there" in snapshot["message"]
    assert len(steps(failed, "cleanup")) == 1


@pytest.mark.parametrize("label", ["model=tiny-digits", "dataset=tiny", "trace-id=of-this-test"])
def test_runs_are_found_by_their_labels(cluster: Cluster, trained: dict[str, Any], label: str) -> None:
    listed = kubectl("-n", cluster.namespace, "get", "workflows", "-l", f"visionloop/{label}", "-o", "name")
    assert trained["metadata"]["name"] in listed


def test_the_trace_id_that_was_given_stands_in_every_receipt(cluster: Cluster, trained: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.services.environment().items():
            patch.setenv(name, value)
        found = {stage: load(outputs(steps(trained, stage)[0])["receipt"], stage).receipt for stage in STAGES[:-1]}
    assert {receipt.trace_id for receipt in found.values()} == {"Of this test"}


def test_a_training_whose_pod_is_deleted_is_tried_again_and_ends(cluster: Cluster, dataset: str) -> None:
    name = cluster.submit(dataset=dataset, **(SETTINGS | {"epochs": "6", "model_name": "Deleted"}))
    pod = _running(cluster, name, "train")
    # Gracefully: a pod that is force-deleted from the API runs on to its end, and its result is taken.
    kubectl("-n", cluster.namespace, "delete", "pod", pod, "--wait=false")
    ended = cluster.wait(name)
    assert ended["status"]["phase"] == "Succeeded", ended["status"].get("message")
    assert len(steps(ended, "train")) == 2


def test_a_training_takes_the_gpu_that_it_asks_for(cluster: Cluster, dataset: str) -> None:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    if not any(int(node["status"]["allocatable"].get(GPU, 0)) for node in nodes):
        pytest.skip(f"no node of the cluster has a GPU to give: none has {GPU} allocatable")
    name = cluster.submit(dataset=dataset, **(SETTINGS | {"model_name": "On a GPU", "gpus": "1"}))
    ended = cluster.wait(name)
    assert ended["status"]["phase"] == "Succeeded", ended["status"].get("message")
    selector = f"workflows.argoproj.io/workflow={name},{STAGE_LABEL}=train"
    (pod,) = json.loads(kubectl("-n", cluster.namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
    (main,) = [one for one in pod["spec"]["containers"] if one["name"] == "main"]
    assert main["resources"]["limits"][GPU] == "1"
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in cluster.services.environment().items():
            patch.setenv(variable, value)
        receipt = load(outputs(steps(ended, "train")[0])["receipt"], "train").receipt
    # Counted by the devices that the training saw.
    assert receipt.timings["gpu_hours"] > 0


def test_a_name_becomes_the_same_label_here_and_there(cluster: Cluster) -> None:
    """Argo's expression against the function that names everything else; accents alone it can't take off."""
    names = ["Tiny Digits", "--a__B--", "x" * 63, "x" * 64, f"{'Long name ' * 20}1", f"{'ab' * 26} c{'d' * 30}"]
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "names-", "namespace": cluster.namespace},
        "spec": {
            "entrypoint": "wait",
            "arguments": {"parameters": [{"name": f"n{i}", "value": name} for i, name in enumerate(names)]},
            "workflowMetadata": {
                "labelsFrom": {
                    f"n{i}": {"expression": SANITISED.format(f"workflow.parameters.n{i}")} for i in range(len(names))
                }
            },
            "templates": [{"name": "wait", "suspend": {"duration": "0s"}}],
        },
    }
    made = kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(manifest)).strip()
    kubectl("-n", cluster.namespace, "wait", made, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    labels = json.loads(kubectl("-n", cluster.namespace, "get", made, "-o", "json"))["metadata"]["labels"]
    assert [labels[f"n{i}"] for i in range(len(names))] == [sanitise(name) for name in names]


def _running(cluster: Cluster, workflow: str, stage: str) -> str:
    """The name of a stage's pod, once it runs."""
    import time

    selector = f"workflows.argoproj.io/workflow={workflow},app.kubernetes.io/component={stage}"
    for _ in range(150):
        wanted = (
            "-n",
            cluster.namespace,
            "get",
            "pods",
            "-l",
            selector,
            "--field-selector=status.phase=Running",
            "-o",
            "name",
        )
        if found := kubectl(*wanted).split():
            return found[0].removeprefix("pod/")
        time.sleep(1)
    raise AssertionError(f"no pod of {stage} ran")
