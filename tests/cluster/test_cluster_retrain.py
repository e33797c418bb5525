"""The retrain workflow on a real Argo: it trains without a champion, and ends after snapshot when nothing has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes_cluster import Cluster, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SETTINGS = {
    "workspace": "s3://visionloop/retrain",
    "model_name": "Nightly Digits",
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": "2",
    "gpus": "0",
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
    "retraining": json.dumps({"min_new_images": 50, "max_runs_per_week": 3}),
}


def retrain(cluster: Cluster, dataset: str) -> dict[str, Any]:
    """A run of the retrain workflow to its end."""
    given = {"dataset": dataset, **SETTINGS}
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "retrain-", "namespace": cluster.namespace},
        "spec": {
            "workflowTemplateRef": {"name": "visionloop-retrain"},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in given.items()]},
        },
    }
    made = kubectl("create", "-o", "name", "-f", "-", stdin=json.dumps(workflow))
    return cluster.wait(made.strip().rsplit("/", 1)[-1])


def pods(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The nodes that ran a container, by their stage."""
    nodes = [node for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"]
    return {node["templateRef"]["template"]: node for node in nodes}


def decision(workflow: dict[str, Any]) -> tuple[str, str]:
    outputs = {one["name"]: one["value"] for one in pods(workflow)["snapshot"]["outputs"]["parameters"]}
    return outputs["go"], outputs["reason"]


@pytest.fixture(scope="module")
def trained(cluster: Cluster, dataset: str) -> dict[str, Any]:
    return retrain(cluster, dataset)


def test_without_a_champion_it_trains_and_registers(trained: dict[str, Any]) -> None:
    assert trained["status"]["phase"] == "Succeeded", trained["status"].get("message")
    assert decision(trained) == ("true", "retraining: nightly-digits has no champion")
    stages = {"snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup"}
    assert set(pods(trained)) == stages
    outputs = {one["name"]: one["value"] for one in pods(trained)["register"]["outputs"]["parameters"]}
    assert (outputs["version"], outputs["alias"]) == ("1", "champion")


def test_an_unchanged_dataset_ends_succeeded_after_snapshot(
    cluster: Cluster, trained: dict[str, Any], dataset: str
) -> None:
    again = retrain(cluster, dataset)
    assert again["status"]["phase"] == "Succeeded", again["status"].get("message")
    assert set(pods(again)) == {"snapshot", "cleanup"}
    go, reason = decision(again)
    assert go == "false"
    assert reason.startswith("skipped: the dataset is still the champion's snap_")
    (skipped,) = [node for node in again["status"]["nodes"].values() if node["displayName"] == "worth-retraining"]
    assert skipped["phase"] == "Skipped"


def test_the_schedule_that_is_shipped_waits_for_a_person(cluster: Cluster) -> None:
    found = json.loads(kubectl("-n", cluster.namespace, "get", "cronworkflow", "visionloop-retrain", "-o", "json"))
    assert found["spec"]["suspend"] is True
    assert not found.get("status", {}).get("active")
