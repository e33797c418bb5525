"""The way to a cluster that is not there, not Argo, or not for the caller."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from visionloop.core.errors import AccessDenied, InvalidConfig, Transient
from visionloop.pipelines.engines.argo import runs as argo
from visionloop.pipelines.engines.argo.client import ArgoServer, KubernetesApi, connect

NOWHERE = {"workspace": "s3://results/w", "model_name": "m", "dataset": "s3://datasets/d"}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def kubeconfig(path: Path, server: str) -> str:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return str(path)


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class _Answers(BaseHTTPRequestHandler):
    status, body = 200, b"<html>a page</html>"
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Answers]]]:
    """A server that gives one answer to everything, and its address."""
    handler = type("Handler", (_Answers,), {"seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{listening.server_port}", handler
        listening.shutdown()


def test_without_any_cluster_the_variables_are_named():
    with pytest.raises(InvalidConfig, match=r"set KUBECONFIG, or ARGO_SERVER"):
        argo.submit("train", NOWHERE)


def test_a_kubeconfig_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    with pytest.raises(InvalidConfig, match=r"KUBECONFIG is '/nowhere/config', and there is no such file"):
        connect()


def test_a_kubeconfig_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "config").write_text("clusters: 3")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(InvalidConfig, match=r"config: the cluster's configuration can't be used"):
        connect()


def test_a_cluster_that_is_out_is_transient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: str):
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", f"http://{closed}"))
    with pytest.raises(Transient, match=r"does not answer .*refused"):
        argo.find("w")


def test_an_argo_server_that_is_out_is_transient(monkeypatch: pytest.MonkeyPatch, closed: str):
    monkeypatch.setenv("ARGO_SERVER", closed)
    monkeypatch.setenv("ARGO_SECURE", "false")
    with pytest.raises(Transient, match=rf"http://{closed}: the cluster does not answer .*refused"):
        argo.find("w")


def test_a_server_without_encryption_is_named(monkeypatch: pytest.MonkeyPatch, server: tuple[str, Any]):
    monkeypatch.setenv("ARGO_SERVER", server[0])
    with pytest.raises((AccessDenied, Transient), match=rf"https://{server[0]}"):
        argo.find("w")


def test_another_server_is_not_taken_for_argos(monkeypatch: pytest.MonkeyPatch, server: tuple[str, Any]):
    monkeypatch.setenv("ARGO_SERVER", f"http://{server[0]}")
    with pytest.raises(InvalidConfig, match=r"not Argo's server; correct ARGO_SERVER"):
        argo.find("w")


@pytest.mark.parametrize("token", ["abc", "Bearer abc"])
def test_a_token_is_taken_with_and_without_its_kind(
    monkeypatch: pytest.MonkeyPatch, server: tuple[str, type[_Answers]], token: str
):
    monkeypatch.setenv("ARGO_TOKEN", token)
    server[1].status, server[1].body = 401, b'{"code": 16, "message": "token not valid"}'
    with pytest.raises(AccessDenied, match=r"access refused .token not valid."):
        argo.find("w", host=f"http://{server[0]}")
    assert server[1].seen == ["Bearer abc"]


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, AccessDenied, "access refused .no."),
        (404, InvalidConfig, "has no workflow w .no."),
        (429, Transient, "429: no"),
        (503, Transient, "503: no"),
    ],
)
def test_a_refusal_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: tuple[str, type[_Answers]],
    direct: bool,
    status: int,
    error: type[Exception],
    words: str,
):
    address, handler = server
    handler.status, handler.body = status, b'{"kind": "Status", "message": "no"}'
    if direct:
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", f"http://{address}"))
    else:
        monkeypatch.setenv("ARGO_SERVER", f"http://{address}")
    with pytest.raises(error, match=words):
        argo.find("w")


def test_argos_server_goes_before_the_kubernetes_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: str):
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", f"http://{closed}"))
    assert isinstance(connect(), KubernetesApi)
    monkeypatch.setenv("ARGO_SERVER", "argo.example.com:2746")
    result = connect()
    assert isinstance(result, ArgoServer)
    assert result.page("n", "w") == "https://argo.example.com:2746/workflows/n/w"


def test_argos_server_below_a_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ARGO_BASE_HREF", "/argo/")
    assert ArgoServer("example.com:443").page("n", "w") == "https://example.com:443/argo/workflows/n/w"


@pytest.mark.parametrize("address", ["ftp://example.com", "http://", ""])
def test_an_address_that_is_none_is_named(address: str):
    with pytest.raises(InvalidConfig, match=r"ARGO_SERVER is"):
        ArgoServer(address)


def test_a_switch_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ARGO_SECURE", "perhaps")
    with pytest.raises(InvalidConfig, match=r"ARGO_SECURE is 'perhaps'; give true or false"):
        ArgoServer("example.com:2746")


class _Kubernetes(BaseHTTPRequestHandler):
    """Answers by path, as an API server with Kueue in it does; 404 for all else."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        answer = self.answers.get(f"{path}?{query}") or self.answers.get(path)
        body = json.dumps(answer or {"kind": "Status", "message": "not found"}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


POD: dict[str, Any] = {
    "metadata": {
        "uid": "u-1",
        "labels": {"kueue.x-k8s.io/queue-name": "visionloop-training"},
        "annotations": {"workflows.argoproj.io/node-id": "w-1"},
    },
    "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
}
PODS = "/api/v1/namespaces/n/pods?labelSelector=workflows.argoproj.io%2Fworkflow%3Dw"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta1/namespaces/n/workloads?labelSelector=kueue.x-k8s.io%2Fjob-uid%3Du-1"
GROUP = {"/apis/kueue.x-k8s.io": {"preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta1"}}}


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What an API server answers, by path."""
    answers: dict[str, Any] = {}
    handler = type("Handler", (_Kubernetes,), {"answers": answers})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", f"http://127.0.0.1:{listening.server_port}"))
        yield answers
        listening.shutdown()


def workload(*conditions: dict[str, str]) -> dict[str, Any]:
    return {"items": [{"status": {"conditions": list(conditions)}}]}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            GROUP
            | {
                WORKLOADS: workload(
                    {
                        "type": "QuotaReserved",
                        "status": "False",
                        "message": "insufficient unused quota for nvidia.com/gpu",
                    }
                )
            },
            "in Kueue's queue visionloop-training: insufficient unused quota for nvidia.com/gpu",
        ),
        (
            GROUP
            | {
                WORKLOADS: workload(
                    {"type": "QuotaReserved", "status": "True", "message": "Quota reserved"},
                    {"type": "Admitted", "status": "False", "message": "The workload waits for its checks"},
                )
            },
            "in Kueue's queue visionloop-training: The workload waits for its checks",
        ),
        (GROUP | {WORKLOADS: {"items": []}}, "in Kueue's queue visionloop-training"),
        ({}, "in Kueue's queue visionloop-training"),
    ],
)
def test_a_queues_reason_is_its_workloads(kubernetes: dict[str, Any], answers: dict[str, Any], reason: str):
    kubernetes |= {PODS: {"items": [POD]}, **answers}
    assert KubernetesApi().queued("n", "w", "w-1") == reason


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([], None),
        ([POD | {"spec": {}}], None),
        ([POD | {"metadata": POD["metadata"] | {"annotations": {}}}], None),
        ([POD | {"metadata": {**POD["metadata"], "labels": {}}}], "held back by kueue.x-k8s.io/admission"),
    ],
)
def test_a_pod_that_no_queue_holds_back_says_nothing_of_one(
    kubernetes: dict[str, Any], pods: list[dict[str, Any]], reason: str | None
):
    kubernetes[PODS] = {"items": pods}
    assert KubernetesApi().queued("n", "w", "w-1") == reason


def test_a_caller_who_may_not_list_pods_hears_nothing_of_a_queue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: tuple[str, type[_Answers]]
):
    server[1].status, server[1].body = 403, b'{"message": "no"}'
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", f"http://{server[0]}"))
    assert KubernetesApi().queued("n", "w", "w-1") is None
