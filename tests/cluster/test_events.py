"""The labelling tool's webhooks on a real Argo Events, under Pod Security ``restricted``.

VISIONLOOP_CLUSTER_BUS names a NATS with JetStream that the pods reach (nats://HOST:4222); without it Argo Events makes a bus.
VISIONLOOP_CLUSTER_SQS names a server of SQS that this machine and the pods reach, which takes any keys.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import yaml
from kubernetes_cluster import KUBECONFIG, MANIFESTS, Cluster, kubectl, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: Read before any test's clean environment takes them away.
BUS = os.environ.get("VISIONLOOP_CLUSTER_BUS")
SQS = os.environ.get("VISIONLOOP_CLUSTER_SQS")

TOKEN = uuid.uuid4().hex
PORT = 12000

#: Leads the example's queue to the server of the test.
QUEUE = f"""
- {{op: add, path: /spec/sqs/datasets/endpoint, value: "{SQS}"}}
- {{op: add, path: /spec/sqs/datasets/accessKey, value: {{name: test-queue, key: access}}}}
- {{op: add, path: /spec/sqs/datasets/secretKey, value: {{name: test-queue, key: secret}}}}
"""


@dataclass(frozen=True)
class Webhook:
    """The event source's address on this machine, and the cluster behind it."""

    url: str
    cluster: Cluster

    def post(self, body: bytes, token: str | None = TOKEN, method: str = "POST") -> int:
        """The status of the answer."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(f"{self.url}/labeling", body, headers, method=method)
            with opener.open(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    def started(self, sensor: str = "visionloop-labeling") -> dict[str, dict[str, Any]]:
        """The workflows that a sensor made, by their dataset."""
        selector = f"events.argoproj.io/sensor={sensor}"
        result = json.loads(kubectl("-n", self.cluster.namespace, "get", "workflows", "-l", selector, "-o", "json"))
        return {parameters(entry)["dataset"]: entry for entry in result["items"]}

    def log(self, sensor: str = "visionloop-labeling") -> str:
        """What a sensor has written."""
        selector = f"sensor-name={sensor}"
        return kubectl("-n", self.cluster.namespace, "logs", "-l", selector, "--tail=-1")


def parameters(workflow: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in workflow["spec"]["arguments"]["parameters"]}


def event(**fields: Any) -> bytes:
    """A body that fits, but for the fields given; None leaves one out."""
    whole: dict[str, Any] = {
        "event": "labeling_complete",
        "dataset": f"s3://datasets/{uuid.uuid4().hex}",
        "task": "detection",
        "model_name": "Webhook",
    }
    return json.dumps({name: value for name, value in (whole | fields).items() if value is not None}).encode()


@pytest.fixture(scope="module")
def webhook(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    if "sensors.argoproj.io" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("the cluster has no Argo Events: its CRDs are missing")
    folder = tmp_path_factory.mktemp("events")
    component = os.path.relpath(MANIFESTS / "components" / "events", folder)
    made: dict[str, Any] = {"namespace": cluster.namespace, "components": [component], "patches": []}
    if SQS:
        made["components"].append(f"{component}-sqs")
        made["patches"].append({"target": {"kind": "EventSource", "name": "visionloop-datasets"}, "patch": QUEUE})
        secret = {"metadata": {"name": "test-queue"}, "stringData": {"access": "any", "secret": "any"}}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret})
    if BUS:
        patch = [
            {
                "op": "replace",
                "path": "/spec",
                "value": {"jetstreamExotic": {"url": BUS, "streamConfig": "replicas: 1"}},
            }
        ]
        made["patches"].append({"target": {"kind": "EventBus"}, "patch": yaml.safe_dump(patch)})
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    secret = {"metadata": {"name": "visionloop-webhook"}, "stringData": {"token": TOKEN}}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret})
    kubectl("apply", "-k", str(folder))
    try:
        for kind in ("eventsource", "sensor"):
            selector = f"{kind}-name=visionloop-labeling"
            until(lambda s=selector: _runs(cluster, s), f"the {kind}'s pod")  # type: ignore[misc]
        result = Webhook("", cluster)
        # What is posted before both triggers listen is never seen.
        until(lambda: result.log().count("started subscribing to events") >= 2, "the sensor's subscriptions")
        with _forwarded(cluster) as port:
            yield Webhook(f"http://127.0.0.1:{port}", cluster)
    finally:
        kubectl("delete", "-k", str(folder), "--wait=false")


def _runs(cluster: Cluster, selector: str) -> bool:
    state = "jsonpath={.items[*].status.containerStatuses[*].ready}"
    return set(kubectl("-n", cluster.namespace, "get", "pods", "-l", selector, "-o", state).split()) == {"true"}


class _forwarded:
    """A port of this machine that leads to the event source."""

    def __init__(self, cluster: Cluster) -> None:
        service = "service/visionloop-labeling-eventsource-svc"
        self.process = subprocess.Popen(
            ["kubectl", "-n", cluster.namespace, "port-forward", service, f":{PORT}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
        )

    def __enter__(self) -> int:
        assert self.process.stdout is not None
        # "Forwarding from 127.0.0.1:40001 -> 12000"; no line at all if kubectl has ended.
        output = self.process.stdout.readline()
        assert "->" in output, f"kubectl port-forward ended with {self.process.wait(30)}"
        return int(output.split("->")[0].rsplit(":", 1)[1])

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], ""])
def test_without_the_token_nothing_is_taken(webhook: Webhook, token: str | None) -> None:
    assert webhook.post(event(), token) == 401


@pytest.mark.parametrize("name", ["labeling_complete", "export_ready"])
def test_a_finished_labelling_starts_a_run_with_what_it_says(webhook: Webhook, name: str) -> None:
    dataset = f"s3://datasets/some where/숫자-{uuid.uuid4().hex}"
    assert webhook.post(event(event=name, dataset=dataset, task="", model_name='Zahlen "neu"')) == 200
    until(lambda: dataset in webhook.started(), "the workflow")
    made = webhook.started()[dataset]
    fields = {"workspace": "s3://visionloop/work", "dataset": dataset, "task": "", "model_name": 'Zahlen "neu"'}
    assert parameters(made) == fields
    assert made["spec"]["workflowTemplateRef"]["name"] == "visionloop-train"
    assert made["metadata"]["labels"]["visionloop/event"] == name
    # Argo has taken it, and the first stage says that no dataset lies there.
    ended = webhook.cluster.wait(made["metadata"]["name"])
    assert any("no dataset lies there" in str(node.get("message")) for node in ended["status"]["nodes"].values())


MISFITS: dict[str, dict[str, Any]] = {
    "started is only logged": {"event": "labeling_started"},
    "progress is only logged": {"event": "labeling_progress"},
    "an event of another tool": {"event": "labeling_complete_soon"},
    "no event": {"event": None},
    "a file of the pod": {"dataset": "file:///etc/{}"},
    "no dataset": {"dataset": None, "model_name": "{}"},
    "a bucket alone": {"dataset": "s3://{}"},
    "an expression in the dataset": {"dataset": "s3://datasets/{}/{{{{workflow.uid}}}}"},
    "an unknown task": {"task": "tracking"},
    "no task": {"task": None},
    "no model name": {"model_name": None},
    "an empty model name": {"model_name": ""},
    "a number as model name": {"model_name": 5},
    "a list as model name": {"model_name": ["a"]},
    "an expression in the model name": {"model_name": "{{{{=sprig.env('HOME')}}}} {}"},
    "a line break in the model name": {"model_name": "a\nb"},
}


def test_what_does_not_fit_starts_nothing_and_is_logged(webhook: Webhook) -> None:
    before = set(webhook.started())
    marks = {}
    for reason, fields in MISFITS.items():
        mark = marks[reason] = uuid.uuid4().hex
        fields = {name: value.format(mark) if isinstance(value, str) else value for name, value in fields.items()}
        assert webhook.post(event(**({"dataset": f"s3://datasets/{mark}"} | fields))) == 200, reason
    assert webhook.post(json.dumps([{"event": "labeling_complete"}]).encode()) == 200
    # Events are handled in order: when this one has started a run, the others have been decided.
    last = f"s3://datasets/last-{uuid.uuid4().hex}"
    assert webhook.post(event(dataset=last)) == 200
    until(lambda: last in webhook.started(), "the last workflow")
    until(lambda: last in webhook.log(), "the last line of the log")
    assert set(webhook.started()) - before == {last}
    log = webhook.log()
    assert [reason for reason, mark in marks.items() if mark not in log] == []
    assert TOKEN not in log


@pytest.mark.parametrize("body", [b"{", b"", b"event=labeling_complete", b'{"event": "' + b"a" * 70_000 + b'"}'])
def test_a_body_that_is_no_json_or_too_long_is_refused(webhook: Webhook, body: bytes) -> None:
    assert webhook.post(body) == 400


def test_the_pods_run_with_few_rights(webhook: Webhook) -> None:
    account = f"--as=system:serviceaccount:{webhook.cluster.namespace}:visionloop-events"
    listed = kubectl("-n", webhook.cluster.namespace, "auth", "can-i", "--list", account)
    assert "workflows" not in listed
    assert "secrets" not in listed


def test_a_dataset_written_into_s3_starts_a_run(webhook: Webhook) -> None:
    if not SQS:
        pytest.skip("VISIONLOOP_CLUSTER_SQS is not set: there is no SQS to notify")
    cluster, name = webhook.cluster, uuid.uuid4().hex
    until(lambda: _runs(cluster, "eventsource-name=visionloop-datasets"), "the event source's pod")
    subscribed = "started subscribing to events"
    until(lambda: webhook.log("visionloop-datasets").count(subscribed) >= 2, "the sensor's subscriptions")
    queue = boto3.client(
        "sqs", endpoint_url=SQS, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    url = queue.create_queue(QueueName="visionloop-datasets")["QueueUrl"]
    for key in (f"a/{name}+1/metadata.json", f"a/{name}/images/1.png", f"a/{name}/metadata.json"):
        record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "datasets"}, "object": {"key": key}}}
        queue.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [record]}))

    def ours() -> dict[str, dict[str, Any]]:
        """Without the runs of what earlier tests have left in the queue."""
        return {dataset: made for dataset, made in webhook.started("visionloop-datasets").items() if name in dataset}

    until(ours, "the workflow")
    until(lambda: webhook.log("visionloop-datasets").count("Records") >= 3, "the log of all three")
    ((dataset, made),) = ours().items()
    assert dataset == f"s3://datasets/a/{name}"
    assert parameters(made)["model_name"] == name
