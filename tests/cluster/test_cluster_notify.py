"""The message about a run's end, sent by cleanup's pod to a receiver on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes_cluster import HOST, MANIFESTS, Cluster, kubectl, steps
from message_receiver import SECRET_PART, Receiver, receiving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SETTINGS = {"workspace": "s3://visionloop/notify", "model_name": "Told", "model": "yolo11n.yaml", "imgsz": "64"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(str(HOST)) as received:
        yield received


@pytest.fixture(scope="module")
def telling(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The namespace with the component ``notify``."""
    folder = tmp_path_factory.mktemp("notify")
    overlay, component = (os.path.relpath(MANIFESTS / path, folder) for path in ("overlays/kind", "components/notify"))
    whole = {"namespace": cluster.namespace, "resources": [overlay], "components": [component]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(whole))
    # Only what the component touches: the stores stay those of this machine.
    for entry in yaml.safe_load_all(kubectl("kustomize", str(folder))):
        name, namespaced = entry["metadata"]["name"], cluster.namespace
        if name in ("visionloop-cleanup", "visionloop-notify"):
            cluster.apply(entry)
        if (entry["kind"], name) == ("ConfigMap", "visionloop"):
            data = {key: value for key, value in entry["data"].items() if key.startswith("VISIONLOOP_")}
            kubectl("-n", namespaced, "patch", "configmap", name, "--type=merge", "-p", json.dumps({"data": data}))
    yield cluster
    kubectl("-n", cluster.namespace, "delete", "secret", "visionloop-notify", "--ignore-not-found")


def tell(cluster: Cluster, url: str) -> None:
    named = {"name": "visionloop-notify"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": {"VISIONLOOP_NOTIFY_URL": url}}
    )


def cleanup(workflow: dict[str, Any]) -> dict[str, Any]:
    return steps(workflow, "cleanup")[-1]


def test_a_failed_run_tells_sentence_remedy_link_and_what_is_kept(
    telling: Cluster, receiver: Receiver, dataset: str
) -> None:
    tell(telling, receiver.url)
    # The first pod checks settings; which GPUs train's pod has, that pod alone can see.
    wrong = SETTINGS | {"gpus": "0", "advanced_config": json.dumps({"device": "0"})}
    ended = telling.wait(telling.submit(dataset=dataset, **wrong), phase="Failed")
    assert len(receiver.bodies) == 1, telling.account(ended)
    (body,) = receiver.bodies
    assert body["status"] == "failed"
    assert body["run"] == ended["metadata"]["uid"]
    assert "device" in body["text"]
    assert (body["stage"], body["error"]) == ("train", "INVALID_CONFIG (exit code 78)")
    assert body["remedy"] == "Correct the configuration, then start a new run."
    kept = [part.split(" ")[0] for part in body["kept"].split(", ")]
    assert sorted(kept) == ["convert", "snapshot", "validate"]
    name = ended["metadata"]["name"]
    assert body["link"] == f"https://argo.example.com/workflows/{telling.namespace}/{name}"


def test_a_receiver_that_is_out_fails_nothing_and_its_address_stays_secret(telling: Cluster, dataset: str) -> None:
    # Port 9 of this machine: nobody listens.
    tell(telling, f"http://{HOST}:9/{SECRET_PART}")
    ended = telling.wait(telling.submit(dataset="s3://datasets/nothing", **SETTINGS))
    assert cleanup(ended)["phase"] == "Succeeded", telling.account(ended)
    name = ended["metadata"]["name"]
    selector = f"workflows.argoproj.io/workflow={name},app.kubernetes.io/component=cleanup"
    log = kubectl("-n", telling.namespace, "logs", "-l", selector, "-c", "main", "--tail=-1")
    assert f"no message was sent: MaxRetryError at {HOST}" in log
    assert SECRET_PART not in log + json.dumps(ended)


def test_without_the_secret_a_run_ends_as_ever(telling: Cluster) -> None:
    kubectl("-n", telling.namespace, "delete", "secret", "visionloop-notify", "--ignore-not-found")
    ended = telling.wait(telling.submit(dataset="s3://datasets/nothing", **SETTINGS))
    assert cleanup(ended)["phase"] == "Succeeded"
