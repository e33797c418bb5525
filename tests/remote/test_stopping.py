"""``visionloop run stop`` and ``run cancel`` of runs on engines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubeflow_server import KubeflowServer
from recordings import workflow
from test_argo_client import kubeconfig

from visionloop.core import stop
from visionloop.core.errors import AccessDenied, InvalidConfig, Transient
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.stop import EVALUATE, Stop
from visionloop.core.storage import open_prefix
from visionloop.pipelines.engines import engine
from visionloop.pipelines.stopping import cancel_run, stop_run

ARGO, KUBEFLOW = engine("argo"), engine("kfp")


@dataclass
class Held:
    """A workflow that an API server or Argo's own server holds, and how it was asked to change it."""

    workflow: dict[str, Any]
    status: int = 200
    asked: list[tuple[str, str, str | None, Any]] = field(default_factory=list)


@pytest.fixture(params=["kubernetes", "argo"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Held]:
    """A running workflow, behind the Kubernetes API and behind Argo's server."""
    result = Held(workflow("argo-locked"))
    name = result.workflow["metadata"]["name"]
    plain = f"/api/v1/workflows/visionloop/{name}"
    direct = f"/apis/argoproj.io/v1alpha1/namespaces/visionloop/workflows/{name}"

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.path.startswith((plain, direct))
            if self.command != "GET":
                sent = json.loads(body)
                result.asked.append((self.command, self.path, self.headers["Content-Type"], sent))
            status = (result.status if self.command != "GET" else 200) if known else 404
            answer = result.workflow if status == 200 else {"kind": "Status", "message": "no"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_PATCH = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{listening.server_port}"
        monkeypatch.delenv("ARGO_SERVER", raising=False)
        change: tuple[str, str, str, dict[str, Any]]
        if request.param == "kubernetes":
            monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", address))
            change = ("PATCH", direct, "application/merge-patch+json", {"spec": {"shutdown": "Stop"}})
        else:
            monkeypatch.setenv("ARGO_SERVER", address)
            change = ("PUT", f"{plain}/stop", "application/json", {"namespace": "visionloop", "name": name})
        result.workflow["expected"] = list(change)
        yield result
        listening.shutdown()


def in_workspace(held: Held, work: str) -> RunRecord:
    """The record of the workflow, which names this workspace."""
    for parameter in held.workflow["spec"]["arguments"]["parameters"]:
        if parameter["name"] == "workspace":
            parameter["value"] = work
    record = RunRecord(open_prefix(work, "results"), held.workflow["metadata"]["uid"])
    record.open({}, None)
    return record


def test_argo_ends_a_workflow_and_lets_its_exit_handler_run(held: Held, tmp_path: Path):
    record = in_workspace(held, str(tmp_path / "work"))
    assert cancel_run(held.workflow["metadata"]["name"], ARGO) is None
    assert [list(change) for change in held.asked] == [held.workflow["expected"]]
    assert stop.requested(record) == Stop(cancelled=True)


def test_a_workspace_that_is_not_for_the_caller_does_not_keep_a_run_alive(held: Held):
    assert cancel_run(held.workflow["metadata"]["name"], ARGO) is None
    assert len(held.asked) == 1


@pytest.mark.parametrize(
    ("recorded", "shutdown", "ended"),
    [
        ("argo-succeeded", None, "succeeded"),
        ("argo-wrong-data", None, "failed"),
        ("argo-wrong-data", "Stop", "cancelled"),
    ],
)
def test_a_workflow_that_has_ended_is_left_alone(held: Held, recorded: str, shutdown: str | None, ended: str):
    metadata = held.workflow["metadata"]
    held.workflow = {**workflow(recorded), "metadata": metadata}
    held.workflow["spec"]["shutdown"] = shutdown
    assert cancel_run(metadata["name"], ARGO) == ended
    assert held.asked == []


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, AccessDenied, "access refused .no.; ask for the right"),
        (404, InvalidConfig, "has no workflow .* that can be ended .no."),
        (503, Transient, "the cluster is out .503: no."),
    ],
)
def test_a_refusal_of_argo_is_one_sentence_and_leaves_no_request(
    held: Held, tmp_path: Path, status: int, error: type[Exception], words: str
):
    record = in_workspace(held, str(tmp_path / "work"))
    held.status = status
    with pytest.raises(error, match=words):
        cancel_run(held.workflow["metadata"]["name"], ARGO)
    assert stop.requested(record) is None


def test_a_workflow_that_argo_has_removed_is_looked_for_in_the_workspace(held: Held, tmp_path: Path):
    with pytest.raises(InvalidConfig, match="has no workflow gone"):
        cancel_run("gone", ARGO)
    record = RunRecord(open_prefix(str(tmp_path / "work"), "results"), "gone")
    with pytest.raises(InvalidConfig, match="has no run gone"):
        cancel_run("gone", ARGO, workspace=record.workspace.uri)
    record.open({}, None)
    with pytest.raises(InvalidConfig, match="has no workflow gone"):
        cancel_run("gone", ARGO, workspace=record.workspace.uri)
    for stage, state in (("train", "cancelled"), ("cleanup", "succeeded")):
        record.write_state(StageState(stage=stage, state=state))
    assert cancel_run("gone", ARGO, workspace=record.workspace.uri) == "cancelled"
    assert stop_run(ARGO.place("gone", workspace=record.workspace.uri), Stop()) == "cancelled"


def test_argo_tells_where_the_record_of_a_workflow_lies(held: Held, tmp_path: Path):
    record = in_workspace(held, str(tmp_path / "work"))
    place = ARGO.place(held.workflow["metadata"]["name"])
    assert (place.workspace, place.run) == (str(tmp_path / "work"), record.name)
    assert stop_run(place, Stop(EVALUATE)) is None
    assert stop.requested(record) == Stop(EVALUATE)
    assert held.asked == []


@pytest.fixture
def server() -> Iterator[KubeflowServer]:
    running = KubeflowServer()
    yield running
    running.close()


@pytest.fixture
def submitted(server: KubeflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run on Kubeflow Pipelines."""
    from visionloop.pipelines.engines.kubeflow import runs as kubeflow

    monkeypatch.setenv("HOME", "/nonexistent")
    work = tmp_path / "work"
    work.mkdir()
    arguments = {"workspace": work.as_uri(), "model_name": "Digits", "dataset": "s3://datasets/digits"}
    return kubeflow.submit("train", arguments, host=server.host).run


@pytest.mark.slow
def test_kubeflow_ends_a_run(server: KubeflowServer, submitted: str):
    assert cancel_run(submitted, KUBEFLOW, host=server.host) is None
    assert server.state.asked[-1] == ("POST", f"/apis/v2beta1/runs/{submitted}:terminate")
    assert server.state.runs[submitted].state == "CANCELING"
    server.end(submitted, "CANCELED")
    asked = len(server.state.asked)
    assert cancel_run(submitted, KUBEFLOW, host=server.host) == "cancelled"
    assert not any(":terminate" in path for _, path in server.state.asked[asked:])


@pytest.mark.slow
def test_kubeflow_tells_where_the_record_of_a_run_lies(server: KubeflowServer, submitted: str, tmp_path: Path):
    place = KUBEFLOW.place(submitted, host=server.host)
    assert stop_run(place, Stop()) is None
    assert stop.requested(RunRecord(open_prefix(str(tmp_path / "work"), "results"), submitted)) == Stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "error"), [((403, "no"), AccessDenied), ((503, "no"), Transient), (None, InvalidConfig)]
)
def test_a_refusal_of_kubeflow_is_one_sentence(
    server: KubeflowServer, submitted: str, failing: tuple[int, str] | None, error: type[Exception]
):
    cancel: Callable[[], object] = KUBEFLOW.find(submitted, host=server.host).cancel
    server.state.failing = failing
    if failing is None:
        server.state.runs.clear()
    with pytest.raises(error):
        cancel()
