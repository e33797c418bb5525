"""The train workflow on a real Argo, with the real images, under Pod Security ``restricted``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import STAGE_IMAGE, Cluster, kubectl, outputs, steps, until

from visionloop.components.calls import STAGES_OF
from visionloop.core.names import sanitise
from visionloop.core.receipts import load
from visionloop.pipelines.deploying import deploy, kserve
from visionloop.pipelines.deploying.order import Order, Wanted
from visionloop.pipelines.engines.argo.templates import SANITISED
from visionloop.pipelines.engines.pods import GPU, STAGE_LABEL
from visionloop.pipelines.serving import TOKEN
from visionloop.registry import Registry

#: Those that every run has: export runs where it is asked for.
STAGES = [stage for stage in STAGES_OF["train"] if stage != "export"]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SETTINGS = {
    "workspace": "s3://visionloop/argo",
    "model_name": "Tiny Digits",
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": "2",
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
    "gate": json.dumps({"floor": 0}),
}


#: Argo's own container tells the controller of progress once a minute, and a training here may be shorter.
AT_ONCE = """
containers:
- name: wait
  env:
  - {name: ARGO_PROGRESS_FILE_TICK_DURATION, value: 1s}
  - {name: ARGO_PROGRESS_PATCH_TICK_DURATION, value: 1s}
"""


@pytest.fixture(scope="module")
def trained(cluster: Cluster, dataset: str) -> dict[str, Any]:
    return cluster.wait(cluster.submit(pod_spec_patch=AT_ONCE, dataset=dataset, trace_id="Of this test", **SETTINGS))


def test_a_run_ends_with_a_registered_champion(cluster: Cluster, trained: dict[str, Any]) -> None:
    assert trained["status"]["phase"] == "Succeeded", cluster.account(trained)
    (register,) = steps(trained, "register")
    assert {name: outputs(register)[name] for name in ("version", "alias")} == {"version": "1", "alias": "champion"}
    assert len(steps(trained, "cleanup")) == 1


def test_argo_counts_the_epochs(trained: dict[str, Any]) -> None:
    (train,) = steps(trained, "train")
    assert train["progress"] == "2/2"


def test_a_second_run_starts_no_pod_for_training(cluster: Cluster, trained: dict[str, Any], dataset: str) -> None:
    again = cluster.wait(cluster.submit(dataset=dataset, **SETTINGS), phase="Succeeded")
    assert steps(again, "train") == steps(again, "evaluate") == [], cluster.account(again)
    assert outputs(steps(again, "register")[0]) == outputs(steps(trained, "register")[0])


def test_the_champion_is_measured_and_nothing_is_registered(
    cluster: Cluster, trained: dict[str, Any], dataset: str
) -> None:
    model = f"{sanitise(SETTINGS['model_name'])}@champion"
    wanted = {"dataset": dataset, "workspace": SETTINGS["workspace"], "model": model, "split_name": "val"}
    measured = cluster.wait(cluster.submit("visionloop-measure", **wanted), phase="Succeeded")
    (evaluate,) = steps(measured, "evaluate")
    assert outputs(evaluate)["verdict"] == "none", cluster.account(measured)
    assert "mAP50" in json.loads(outputs(evaluate)["metrics"])
    assert steps(measured, "train") == steps(measured, "register") == []
    assert len(steps(measured, "cleanup")) == 1


def test_the_champion_predicts_on_all_images_of_a_prefix(
    cluster: Cluster, trained: dict[str, Any], dataset: str
) -> None:
    model = f"{sanitise(SETTINGS['model_name'])}@champion"
    wanted = {"images": f"{dataset}/images", "workspace": SETTINGS["workspace"], "model": model, "write": "coco,dice"}
    predicted = cluster.wait(cluster.submit("visionloop-predict", **wanted), phase="Succeeded")
    (predict,) = steps(predicted, "predict")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in cluster.services.environment().items():
            patch.setenv(variable, value)
        result = load(outputs(predict)["receipt"], "predict")
        assert {"predictions-00000", "coco", "dice"} <= set(result.receipt.outputs)
        assert len(json.loads(result.read("coco"))["images"]) == result.receipt.scalars["images"]
    assert len(steps(predicted, "cleanup")) == 1


def test_a_run_exports_what_it_has_trained_already(cluster: Cluster, trained: dict[str, Any], dataset: str) -> None:
    exported = cluster.wait(cluster.submit(dataset=dataset, export="onnx", **SETTINGS), phase="Succeeded")
    assert steps(exported, "train") == steps(exported, "evaluate") == [], cluster.account(exported)
    (export,), (register,) = steps(exported, "export"), steps(exported, "register")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in cluster.services.environment().items():
            patch.setenv(variable, value)
        assert load(outputs(export)["receipt"], "export").receipt.scalars["exports"] == {"onnx:fp32": "accepted"}
    assert outputs(register)["version"] == outputs(steps(trained, "register")[0])["version"]


def test_the_pod_that_a_deployment_asks_for_answers(
    cluster: Cluster, trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KServe is not here: the InferenceService's pod is started as it stands, under the policies of the namespace."""
    for variable, value in cluster.services.environment().items():
        monkeypatch.setenv(variable, value)
    version = Registry(os.environ).version(sanitise(SETTINGS["model_name"]), 1)
    assert version is not None
    registry, tag = STAGE_IMAGE.rpartition("/")[0], STAGE_IMAGE.rpartition(":")[2]
    deploy(
        "kserve",
        Order(version, version.source, "ultralytics", Wanted(registry=registry, tag=tag)),
        str(tmp_path / "out"),
    )
    predictor = yaml.safe_load((tmp_path / "out" / kserve.SERVICE).read_text())["spec"]["predictor"]
    kept = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "containers", "volumes")
    token = "a-token-of-the-tests"
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": kserve.SECRET}, "stringData": {TOKEN: token}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "deployed", "labels": predictor["labels"]},
            "spec": {name: predictor[name] for name in kept},
        },
    )
    kubectl("-n", cluster.namespace, "wait", "--for=condition=Ready", "--timeout=300s", "pod/deployed")
    address = json.loads(kubectl("-n", cluster.namespace, "get", "pod", "deployed", "-o", "json"))["status"]["podIP"]
    asked = subprocess.run(
        [sys.executable, str(tmp_path / "out" / kserve.SMOKE_TEST), f"http://{address}:{kserve.PORT}", "120"],
        env=os.environ | {TOKEN: token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    kubectl("-n", cluster.namespace, "delete", "pod", "deployed", "--wait=false")


def test_wrong_data_ends_at_once_with_its_sentence(cluster: Cluster) -> None:
    failed = cluster.wait(cluster.submit(dataset="s3://datasets/nothing", **SETTINGS), phase="Failed")
    assert len(steps(failed, "snapshot")) == 1, cluster.account(failed)
    (snapshot,) = steps(failed, "snapshot")
    assert "Error (exit code 65): s3://datasets/nothing: no dataset lies there" in snapshot["message"]
    assert len(steps(failed, "cleanup")) == 1


@pytest.mark.parametrize("label", ["model=tiny-digits", "dataset=tiny", "trace-id=of-this-test"])
def test_runs_are_found_by_their_labels(cluster: Cluster, trained: dict[str, Any], label: str) -> None:
    listed = kubectl("-n", cluster.namespace, "get", "workflows", "-l", f"visionloop/{label}", "-o", "name")
    assert f"workflow.argoproj.io/{trained['metadata']['name']}" in listed.split()


def test_every_pod_of_a_run_is_found_by_run_trace_id_model_and_trainer(
    cluster: Cluster, trained: dict[str, Any]
) -> None:
    wanted = {"run": trained["metadata"]["uid"], "trace-id": "of-this-test", "model": "tiny-digits"}
    selector = ",".join(f"visionloop/{name}={value}" for name, value in {**wanted, "trainer": "ultralytics"}.items())
    found = kubectl("-n", cluster.namespace, "get", "pods", "-l", selector, "-o", "name").split()
    every = cluster.pods(trained["metadata"]["name"])
    assert {name.removeprefix("pod/") for name in found} == {pod["metadata"]["name"] for pod in every}
    assert {pod["metadata"]["labels"][STAGE_LABEL] for pod in every} == set(STAGES)


def test_the_trace_id_that_was_given_stands_in_every_receipt(cluster: Cluster, trained: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.services.environment().items():
            patch.setenv(name, value)
        results = {stage: load(outputs(steps(trained, stage)[0])["receipt"], stage).receipt for stage in STAGES[:-1]}
    assert {receipt.trace_id for receipt in results.values()} == {"Of this test"}


def test_a_training_whose_pod_is_deleted_is_tried_again_and_ends(cluster: Cluster, dataset: str) -> None:
    settings = SETTINGS | {"epochs": "8", "model_name": "Deleted"}
    name = cluster.submit(pod_spec_patch=AT_ONCE, dataset=dataset, **settings)
    # A pod that goes before Argo has seen it run is made again under its name, which does not count as an attempt.
    until(lambda: _trains(cluster, name), "an epoch of the training", 600)
    (pod,) = cluster.pods(name, "train")
    # Gracefully: a pod that is force-deleted from the API runs on to its end, and its result is taken.
    kubectl("-n", cluster.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false")
    ended = cluster.wait(name, phase="Succeeded")
    tried = steps(ended, "train")
    assert [node["phase"] in ("Failed", "Error") for node in tried] == [True, False], cluster.account(ended)


def _trains(cluster: Cluster, name: str) -> bool:
    """Whether Argo has seen an epoch done; stops where the workflow is over."""
    result = cluster.workflow(name)
    assert not result.get("status", {}).get("finishedAt"), cluster.account(result)
    trained = [node.get("progress", "0/1") for node in steps(result, "train") if node["phase"] == "Running"]
    return any(int(progress.split("/")[0]) > 0 for progress in trained)


def test_a_training_takes_the_gpu_that_it_asks_for(cluster: Cluster, dataset: str) -> None:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    if not any(int(node["status"]["allocatable"].get(GPU, 0)) for node in nodes):
        pytest.skip(f"no node of the cluster has a GPU to give: none has {GPU} allocatable")
    # Other epochs than the trainings above have: theirs would be found again.
    name = cluster.submit(dataset=dataset, **(SETTINGS | {"model_name": "On a GPU", "gpus": "1", "epochs": "3"}))
    ended = cluster.wait(name, phase="Succeeded")
    (pod,) = cluster.pods(name, "train")
    (main,) = [entry for entry in pod["spec"]["containers"] if entry["name"] == "main"]
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
    made = cluster.create(
        "names-",
        entrypoint="wait",
        arguments={"parameters": [{"name": f"n{i}", "value": name} for i, name in enumerate(names)]},
        workflowMetadata={
            "labelsFrom": {
                f"n{i}": {"expression": SANITISED.format(f"workflow.parameters.n{i}")} for i in range(len(names))
            }
        },
        templates=[{"name": "wait", "suspend": {"duration": "0s"}}],
    )
    labels = cluster.wait(made, 120, phase="Succeeded")["metadata"]["labels"]
    assert [labels[f"n{i}"] for i in range(len(names))] == [sanitise(name) for name in names]
