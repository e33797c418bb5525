"""The retrain workflow on a real Argo: it trains without a champion, and ends after snapshot when nothing has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes_cluster import Cluster, kubectl, outputs, steps, template_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SETTINGS = {
    "workspace": "s3://visionloop/retrain",
    "model_name": "Nightly Digits",
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": "2",
    "gpus": "0",
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
    "gate": json.dumps({"floor": 0}),
    "retraining": json.dumps({"min_new_images": 50, "max_runs_per_week": 3}),
}


def retrain(cluster: Cluster, dataset: str) -> dict[str, Any]:
    """A run of the retrain workflow to its end."""
    return cluster.wait(cluster.submit("visionloop-retrain", dataset=dataset, **SETTINGS), phase="Succeeded")


def decision(workflow: dict[str, Any]) -> tuple[str, str]:
    result = outputs(steps(workflow, "snapshot")[-1])
    return result["go"], result["reason"]


@pytest.fixture(scope="module")
def trained(cluster: Cluster, dataset: str) -> dict[str, Any]:
    return retrain(cluster, dataset)


def test_without_a_champion_it_trains_and_registers(trained: dict[str, Any]) -> None:
    assert decision(trained) == ("true", "retraining: nightly-digits has no champion")
    stages = {"snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup"}
    assert {template_of(node) for node in steps(trained)} == stages
    registered = outputs(steps(trained, "register")[-1])
    assert (registered["version"], registered["alias"]) == ("1", "champion")


def test_an_unchanged_dataset_ends_succeeded_after_snapshot(
    cluster: Cluster, trained: dict[str, Any], dataset: str
) -> None:
    again = retrain(cluster, dataset)
    assert {template_of(node) for node in steps(again)} == {"snapshot", "cleanup"}, cluster.account(again)
    go, reason = decision(again)
    assert go == "false"
    assert reason.startswith("skipped: the dataset is still the champion's snap_")
    (skipped,) = [node for node in again["status"]["nodes"].values() if node["displayName"] == "worth-retraining"]
    assert skipped["phase"] == "Skipped"


def test_the_schedule_that_is_shipped_waits_for_a_person(cluster: Cluster) -> None:
    result = json.loads(kubectl("-n", cluster.namespace, "get", "cronworkflow", "visionloop-retrain", "-o", "json"))
    assert result["spec"]["suspend"] is True
    assert not result.get("status", {}).get("active")
