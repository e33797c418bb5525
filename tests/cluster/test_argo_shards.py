"""Shards on a real Argo: a task for each of them and one for the whole, and none for an empty field."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_cluster import Cluster, kubectl, outputs, steps, until

from visionloop.core.receipts import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def _to_train(cluster: Cluster, dataset: str, workspace: str, shards: str, pipeline: str = "train") -> dict[str, Any]:
    """A run up to its training, whose pod is not waited for."""
    name = cluster.submit(
        f"visionloop-{pipeline}",
        dataset=dataset,
        workspace=f"s3://visionloop/{workspace}",
        model_name=workspace,
        model="yolo11n.yaml",
        shards=shards,
        gpus="0",
    )

    def converted() -> dict[str, Any] | None:
        result = cluster.workflow(name)
        assert not result.get("status", {}).get("finishedAt"), cluster.account(result)
        nodes = result.get("status", {}).get("nodes", {}).values()
        return (
            result if any(node["displayName"] == "convert" and node["phase"] == "Succeeded" for node in nodes) else None
        )

    result: dict[str, Any] = until(converted, "convert", 900)
    kubectl("-n", cluster.namespace, "delete", "workflow", name, "--wait=false")
    return result


def _node(workflow: dict[str, Any], task: str) -> dict[str, Any]:
    (results,) = [node for node in workflow["status"]["nodes"].values() if node["displayName"] == task]
    return dict(results)


@pytest.fixture(scope="module")
def single(cluster: Cluster, dataset: str) -> dict[str, Any]:
    return _to_train(cluster, dataset, "one-piece", "")


@pytest.mark.parametrize("pipeline", ["train", "retrain"])
def test_shards_give_what_a_run_without_them_gives(
    cluster: Cluster, dataset: str, single: dict[str, Any], pipeline: str
) -> None:
    four = _to_train(cluster, dataset, f"four-shards-{pipeline}", "4", pipeline)
    receipts = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.services.environment().items():
            patch.setenv(name, value)
        for stage in ("validate", "convert"):
            assert _node(single, f"{stage}-shards")["phase"] == "Skipped"
            assert len(steps(single, stage)) == 1
            assert _node(four, f"{stage}-shards")["type"] == "TaskGroup"
            assert len(steps(four, stage)) == 5
            names = [f"{stage}-shards({index}:{index + 1}/4)" for index in range(4)]
            parts = [load(outputs(_node(four, name))["receipt"], stage).receipt for name in names]
            assert [part.parameters["shard"].value for part in parts] == ["1/4", "2/4", "3/4", "4/4"]
            whole = [load(outputs(_node(run, stage))["receipt"], stage).receipt for run in (single, four)]
            receipts[stage] = {(receipt.key, receipt.digest) for receipt in whole}
    assert {stage: len(entry) for stage, entry in receipts.items()} == {"validate": 1, "convert": 1}
