"""Argo's own time a step and ours, printed. Run by ``make bench`` where there is a cluster.

A step's time is its node's: from the engine's decision to start it to its outputs being known. The pod's is its
container's; ours is what the receipt says was computed. The rest is the engine's: scheduling, init and wait containers, the
controller's next look. It asserts what was done, never how long it took.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from kubernetes_cluster import Cluster, outputs

from visionloop.core import receipts
from visionloop.pipelines.engines.pods import STAGE_LABEL

pytestmark = [pytest.mark.cluster, pytest.mark.bench, pytest.mark.timeout(1800)]

SETTINGS = {
    "workspace": "s3://visionloop/time",
    "model_name": "Time",
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": "2",
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
    "gate": json.dumps({"floor": 0}),
}


def seconds(began: str, ended: str) -> float:
    """Between two times as Kubernetes writes them; whole seconds."""
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def containers(cluster: Cluster, workflow: str) -> dict[str, float]:
    """The seconds that each stage's main container ran."""
    results = {}
    for pod in cluster.pods(workflow):
        (main,) = [entry for entry in pod["status"]["containerStatuses"] if entry["name"] == "main"]
        ended = main["state"]["terminated"]
        stage = pod["metadata"]["labels"][STAGE_LABEL]
        results[stage] = seconds(ended["startedAt"], ended["finishedAt"])
    return results


def rows(cluster: Cluster, workflow: dict[str, Any]) -> dict[str, tuple[float, float, float | None]]:
    """By stage: the step's seconds, its container's, and its receipt's (None without one)."""
    ran = containers(cluster, workflow["metadata"]["name"])
    results = {}
    for node in sorted(workflow["status"]["nodes"].values(), key=lambda entry: str(entry["startedAt"])):
        stage = node["displayName"]
        if node["type"] == "Retry" and stage in ran:
            uri = outputs(node).get("receipt", "")
            receipt = receipts.load(uri, stage).receipt if uri else None
            ours = receipt.timings["seconds"] if receipt else None
            results[stage] = (seconds(node["startedAt"], node["finishedAt"]), ran[stage], ours)
    return results


def test_the_engines_own_time_beside_ours(
    cluster: Cluster, dataset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in cluster.services.environment().items():
        monkeypatch.setenv(name, value)
    for what in ("computed", "reused"):
        ended = cluster.wait(cluster.submit(dataset=dataset, **SETTINGS), phase="Succeeded")
        result = rows(cluster, ended)
        assert ("train" in result) == (what == "computed")
        whole = seconds(ended["status"]["startedAt"], ended["status"]["finishedAt"])
        with capsys.disabled():
            print(f"\na run on Argo, {what}: {whole:.0f} s in all")
            print("  stage      step s  container s  receipt s  the engine's own s")
            for stage, (step, container, ours) in result.items():
                ours_text = "" if ours is None else f"{ours:.1f}"
                print(f"  {stage:<10} {step:6.0f}  {container:11.0f}  {ours_text:>9}  {step - container:18.0f}")
            own = [step - container for step, container, _ in result.values()]
            print(f"  the engine's own time a step: {sum(own) / len(own):.1f} s")
