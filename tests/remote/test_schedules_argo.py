"""Schedules on Argo Workflows: the CronWorkflow that is made, over HTTP on both ways, and by Argo's own linter."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionloop.core.errors import AccessDenied, InvalidConfig, Transient
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.schedules import ArgoSchedules, cron_workflow
from visionloop.pipelines.following.cron import Cron
from visionloop.pipelines.targets import cluster

ARGUMENTS = {"workspace": "s3://results/here", "model_name": "Digits", "dataset": "s3://datasets/Sample Digits"}
NIGHTLY = Cron.parse("0 3 * * mon-fri")


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return argo_files(cluster())


@pytest.fixture(scope="module")
def template(files: dict[str, str]) -> dict[str, Any]:
    result = next(iter(yaml.safe_load_all(files["visionloop-retrain.yaml"])))
    assert result["kind"] == "WorkflowTemplate"
    return dict(result)


class Held:
    """CronWorkflows behind one of the two APIs, as much of it as is asked for."""

    def __init__(self, template: dict[str, Any]) -> None:
        self.template = template
        self.crons: dict[str, dict[str, Any]] = {}
        self.failing: list[int] = []
        self.conflicts = 0
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    held: Held
    cron_prefix: str
    template_prefix: str

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        path, _, query = self.path.partition("?")
        self.held.asked.append(f"{self.command} {path}")
        if self.held.failing:
            return self._send(self.held.failing.pop(0), {"message": "not now"})
        if path.startswith(self.template_prefix):
            existing = path.endswith(f"/{self.held.template['metadata']['name']}")
            return self._send(*((200, self.held.template) if existing else (404, {"message": "not found"})))
        name, _, verb = path.removeprefix(self.cron_prefix).strip("/").partition("/")
        return self._send(*self._cron(name, verb, body, query))

    def _cron(self, name: str, verb: str, body: dict[str, Any], query: str) -> tuple[int, Any]:
        if not name and self.command == "GET":
            assert "app.kubernetes.io%2Fname%3Dvisionloop" in query
            return 200, {"items": list(self.held.crons.values()) or None}
        if self.command == "POST":
            made = body.get("cronWorkflow", body)
            existing = made["metadata"]["name"] in self.held.crons
            self.held.crons.setdefault(made["metadata"]["name"], made)
            return (409, {"message": "already exists"}) if existing else (200, made)
        if name not in self.held.crons:
            return 404, {"message": "not found"}
        if self.command == "PUT":
            if verb:
                self.held.crons[name]["spec"]["suspend"] = verb == "suspend"
            elif self.held.conflicts:
                self.held.conflicts -= 1
                return 409, {"message": "the object has been modified"}
            else:
                self.held.crons[name] = body
        elif self.command == "DELETE":
            return 200, self.held.crons.pop(name) and {}
        return 200, self.held.crons[name]

    def _send(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _handle


WAYS = {
    "kubernetes": (
        "/apis/argoproj.io/v1alpha1/namespaces/ml/cronworkflows",
        "/apis/argoproj.io/v1alpha1/namespaces/ml/workflowtemplates",
    ),
    "server": ("/api/v1/cron-workflows/ml", "/api/v1/workflow-templates/ml"),
}


@pytest.fixture(params=WAYS)
def way(
    request: pytest.FixtureRequest, template: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Held, ArgoSchedules]]:
    """What is held, and the schedules through one of the APIs."""
    held = Held(template)
    handler = type(
        "Handler",
        (_Handler,),
        {"held": held, "cron_prefix": WAYS[request.param][0], "template_prefix": WAYS[request.param][1]},
    )
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{http.server_address[1]}"
    if request.param == "server":
        yield held, ArgoSchedules(address, "ml")
    else:
        named = {"name": "here", "cluster": {"server": address}}
        context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
        config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": "here"}
        config |= {"clusters": [named], "contexts": [context], "users": [{"name": "me", "user": {}}]}
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield held, ArgoSchedules(namespace="ml")
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_schedule_starts_the_template_and_never_twice_at_once(template: dict[str, Any]) -> None:
    made = cron_workflow("nightly", "ml", template, {**ARGUMENTS, "epochs": 20}, NIGHTLY, "Asia/Seoul")
    spec = made["spec"]
    assert spec["schedules"] == ["0 3 * * mon-fri"]
    assert (spec["timezone"], spec["concurrencyPolicy"], spec["suspend"]) == ("Asia/Seoul", "Forbid", False)
    assert spec["startingDeadlineSeconds"] > 0
    assert spec["workflowSpec"]["workflowTemplateRef"] == {"name": "visionloop-retrain"}
    fields = {entry["name"]: entry["value"] for entry in spec["workflowSpec"]["arguments"]["parameters"]}
    assert fields | {"trace_id": ""} == {**ARGUMENTS, "epochs": "20", "trace_id": ""}
    for labels in (made["metadata"]["labels"], spec["workflowMetadata"]["labels"]):
        assert labels["visionloop/schedule"] == "nightly"
        assert labels["visionloop/dataset"] == "sample-digits"
        assert labels["app.kubernetes.io/name"] == "visionloop"
        # A trace id belongs to one run.
        assert "visionloop/trace-id" not in labels


def test_argo_finds_nothing_wrong_with_it(files: dict[str, str], template: dict[str, Any], tmp_path: Path) -> None:
    if shutil.which("argo") is None:
        pytest.skip("argo is not installed: its linter can't be asked")
    made = cron_workflow("nightly", "ml", template, {**ARGUMENTS, "gpus": "0"}, NIGHTLY, "Asia/Seoul")
    templates = [
        {**entry, "metadata": {**entry["metadata"], "namespace": "ml"}}
        for name, text in files.items()
        if name != "kustomization.yaml"
        for entry in yaml.safe_load_all(text)
    ]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*templates, made]))
    linted = subprocess.run(
        ["argo", "lint", "--offline", "--no-color", str(tmp_path / "all.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_a_schedule_is_made_listed_paused_resumed_and_deleted(way: tuple[Held, ArgoSchedules]) -> None:
    held, schedules = way
    assert schedules.list() == []
    made = schedules.create("nightly", "retrain", ARGUMENTS, NIGHTLY, "Asia/Seoul")
    assert (made.name, made.pipeline, made.cron) == ("nightly", "visionloop-retrain", "0 3 * * mon-fri")
    assert (made.timezone, made.state, made.model_name, made.last) == ("Asia/Seoul", "active", "Digits", None)
    assert made.next is not None
    assert made.next.strftime("%H:%M %z") == "03:00 +0900"
    schedules.pause("nightly")
    held.crons["nightly"]["status"] = {"lastScheduledTime": "2026-11-20T18:00:00Z"}
    (listed,) = schedules.list()
    assert (listed.state, listed.next) == ("paused", None)
    assert listed.last is not None
    assert listed.last.isoformat() == "2026-11-20T18:00:00+00:00"
    schedules.resume("nightly")
    assert schedules.list()[0].state == "active"
    schedules.delete("nightly")
    assert held.crons == {}


def test_a_name_is_used_once(way: tuple[Held, ArgoSchedules]) -> None:
    _, schedules = way
    schedules.create("nightly", "retrain", ARGUMENTS, NIGHTLY, "UTC")
    with pytest.raises(InvalidConfig, match="has a schedule nightly already"):
        schedules.create("nightly", "retrain", ARGUMENTS, NIGHTLY, "UTC")


def test_what_is_not_there_or_not_ours_is_left_alone(way: tuple[Held, ArgoSchedules]) -> None:
    held, schedules = way
    held.crons["theirs"] = {"metadata": {"name": "theirs"}, "spec": {"suspend": False}}
    for name in ("nightly", "theirs"):
        for change in (schedules.pause, schedules.resume, schedules.delete):
            with pytest.raises(InvalidConfig, match=f"has no schedule {name}; see"):
                change(name)
    assert held.crons["theirs"]["spec"]["suspend"] is False


def test_a_template_and_its_parameters_must_be_there(way: tuple[Held, ArgoSchedules]) -> None:
    held, schedules = way
    with pytest.raises(InvalidConfig, match="has no WorkflowTemplate visionloop-nothing"):
        schedules.create("nightly", "nothing", ARGUMENTS, NIGHTLY, "UTC")
    with pytest.raises(InvalidConfig, match="has no parameter 'epoch'"):
        schedules.create("nightly", "retrain", {**ARGUMENTS, "epoch": 1}, NIGHTLY, "UTC")
    assert held.crons == {}


@pytest.mark.parametrize(("status", "error"), [(403, AccessDenied), (503, Transient), (400, InvalidConfig)])
def test_a_refusal_is_told_by_its_remedy(way: tuple[Held, ArgoSchedules], status: int, error: type[Exception]) -> None:
    held, schedules = way
    held.failing = [status]
    with pytest.raises(error, match="not now"):
        schedules.list()


def test_a_change_that_meets_the_controllers_own_is_made_again(way: tuple[Held, ArgoSchedules]) -> None:
    held, schedules = way
    schedules.create("nightly", "retrain", ARGUMENTS, NIGHTLY, "UTC")
    held.conflicts = 2
    schedules.pause("nightly")
    assert held.crons["nightly"]["spec"]["suspend"] is True


def test_a_change_that_never_fits_is_given_up(way: tuple[Held, ArgoSchedules]) -> None:
    held, schedules = way
    schedules.create("nightly", "retrain", ARGUMENTS, NIGHTLY, "UTC")
    held.conflicts = 100
    if any("cron-workflows" in asked for asked in held.asked):
        # Argo's server makes the change itself.
        schedules.pause("nightly")
        assert held.crons["nightly"]["spec"]["suspend"] is True
        return
    with pytest.raises(Transient, match="changed by others"):
        schedules.pause("nightly")
