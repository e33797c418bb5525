"""A schedule on a real Argo: it fires, and is paused, resumed and deleted, through either API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes_cluster import KUBECONFIG, Cluster, kubectl, until

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.argo.schedules import ArgoSchedules
from visionloop.pipelines.following.cron import Cron

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: Read before any test's clean environment takes it away.
SERVER = os.environ.get("ARGO_SERVER")
SECURE = os.environ.get("ARGO_SECURE")

PIPELINE = "retrain"

#: A dataset that is not there: each run ends at its first stage.
ARGUMENTS = {
    "workspace": "s3://visionloop/schedule",
    "model_name": "Scheduled Digits",
    "dataset": "s3://datasets/nothing",
    "gpus": "0",
}


@pytest.fixture(params=["kubernetes", "server"])
def schedules(request: pytest.FixtureRequest, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> ArgoSchedules:
    """The namespace's schedules, through each API."""
    monkeypatch.setenv("KUBECONFIG", str(KUBECONFIG))
    if request.param == "kubernetes":
        return ArgoSchedules(namespace=cluster.namespace)
    if not SERVER:
        pytest.skip("ARGO_SERVER is not set: there is no Argo server to ask")
    if SECURE:
        monkeypatch.setenv("ARGO_SECURE", SECURE)
    return ArgoSchedules(host=SERVER, namespace=cluster.namespace)


@pytest.fixture
def name(schedules: ArgoSchedules, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a schedule that is gone at the end."""
    chosen = f"each-minute-{request.node.callspec.params['schedules']}"
    yield chosen
    if any(entry.name == chosen for entry in schedules.list()):
        schedules.delete(chosen)


def runs(cluster: Cluster, schedule: str) -> list[dict[str, Any]]:
    """The workflows that a schedule has started."""
    selector = f"visionloop/schedule={schedule}"
    result = kubectl("-n", cluster.namespace, "get", "workflows", "-l", selector, "-o", "json")
    return list(json.loads(result)["items"])


def test_a_schedule_fires_and_is_paused_resumed_and_deleted(
    schedules: ArgoSchedules, cluster: Cluster, name: str
) -> None:
    made = schedules.create(name, PIPELINE, ARGUMENTS, Cron.parse("* * * * *"), "Asia/Seoul")
    assert (made.pipeline, made.state, made.timezone) == (f"visionloop-{PIPELINE}", "active", "Asia/Seoul")
    assert made.next is not None
    with pytest.raises(InvalidConfig, match=f"has a schedule {name} already"):
        schedules.create(name, PIPELINE, ARGUMENTS, Cron.parse("* * * * *"), "UTC")

    first = until(lambda: runs(cluster, name), "a run", 150)[0]
    ended = cluster.wait(first["metadata"]["name"], 300)
    # The model's label is the controller's work, who writes it when it takes up the run.
    labels = ended["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "visionloop"
    assert labels["visionloop/model"] == "scheduled-digits"
    assert labels["visionloop/dataset"] == "nothing"
    messages = [str(node.get("message")) for node in ended["status"]["nodes"].values()]
    assert any("s3://datasets/nothing: no dataset lies there" in message for message in messages), messages

    schedules.pause(name)
    (listed,) = [entry for entry in schedules.list() if entry.name == name]
    assert (listed.state, listed.next, listed.model_name) == ("paused", None, "Scheduled Digits")
    assert listed.last is not None
    until(lambda: all(_ended(entry) for entry in runs(cluster, name)), "the last run's end", 300)
    before = _last(schedules, name)
    # Over a whole minute a paused schedule starts nothing.
    minute = datetime.now(UTC).minute
    until(lambda: datetime.now(UTC).minute not in (minute, (minute + 1) % 60), "the minute after the next", 150)
    assert _last(schedules, name) == before

    schedules.resume(name)
    until(lambda: _last(schedules, name) != before, "a run after it was resumed", 150)

    schedules.delete(name)
    assert name not in [entry.name for entry in schedules.list()]
    with pytest.raises(InvalidConfig, match=f"has no schedule {name}"):
        schedules.pause(name)


def _ended(workflow: dict[str, Any]) -> bool:
    """Whether a workflow is over; one that the controller has not taken up has no status yet."""
    return bool(workflow.get("status", {}).get("finishedAt"))


def _last(schedules: ArgoSchedules, name: str) -> datetime | None:
    (results,) = [entry for entry in schedules.list() if entry.name == name]
    return results.last


def test_a_template_must_be_there(schedules: ArgoSchedules) -> None:
    with pytest.raises(InvalidConfig, match="has no WorkflowTemplate visionloop-nothing"):
        schedules.create("none", "nothing", ARGUMENTS, Cron.parse("@daily"), "UTC")


def test_an_unknown_parameter_is_refused(schedules: ArgoSchedules) -> None:
    with pytest.raises(InvalidConfig, match="has no parameter 'epoch'"):
        schedules.create("none", PIPELINE, {**ARGUMENTS, "epoch": "1"}, Cron.parse("@daily"), "UTC")
