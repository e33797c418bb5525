"""How a run on Kubeflow Pipelines ends for somebody who can't read its workspace: by its tasks' output parameters."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api as api  # type: ignore[import-untyped]
import pytest
from kubeflow_server import METADATA, KubeflowServer, frames, task, wire
from rich.console import Console

from visionloop.core.errors import Defect, InvalidConfig, Killed, VisionloopError
from visionloop.pipelines.cli.ending import lines
from visionloop.pipelines.engines.kubeflow import metadata
from visionloop.pipelines.engines.kubeflow import runs as kubeflow
from visionloop.pipelines.engines.kubeflow.client import connect
from visionloop.pipelines.following.follow import follow

STAGES = ("snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup")
ARGUMENTS = {"workspace": "s3://results/elsewhere", "model_name": "Digits"}

#: What a real ML Metadata 1.17 was asked and answered about a run that was written as KFP's driver and launcher do.
RECORDED = json.loads((Path(__file__).with_name("recorded") / "kubeflow-metadata.json").read_text())
RUN = RECORDED["run"]

#: What convert says where no earlier evaluation is found.
NOT_YET = {"receipt": "c", "next": "train", "verdict": "", "reason": "", "evaluation_metrics": ""}
PROMOTED = {"receipt": "e", "verdict": "promote", "reason": "it is the first.", "metrics": '{"mAP50": 0.75}'}
REGISTERED = {"receipt": "r", "version": "3", "alias": "champion"}
TASKS: list[tuple[str, dict[str, str]]] = [
    ("convert", NOT_YET),
    ("evaluate", PROMOTED),
    ("register-2", REGISTERED),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubeflowServer]:
    """A server, reached through its page, with a run that has ended well."""
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path))
    running = KubeflowServer()
    running.state.runs[RUN] = api.V2beta1Run(run_id=RUN, display_name="Digits")
    running.end(RUN, "SUCCEEDED", *(task(stage, "SUCCEEDED") for stage in STAGES))
    running.state.outputs = {"another": [("evaluate", {"verdict": "reject"})], RUN: TASKS}
    yield running
    running.close()


def run_of(server: KubeflowServer) -> kubeflow.KubeflowRun:
    return kubeflow.KubeflowRun(connect(server.host), "Digits", RUN, ARGUMENTS)


def end(server: KubeflowServer) -> dict[str, Any]:
    """Follows the run to its end; its workspace lies where nobody here reaches it."""
    return follow(run_of(server), ARGUMENTS["workspace"], ARGUMENTS, every=0)


def test_verdict_version_and_metrics_are_the_tasks_outputs(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = end(server)
    assert (ended["verdict"], ended["reason"], ended["metrics"]) == ("promote", "it is the first.", {"mAP50": 0.75})
    assert (ended["version"], ended["alias"], ended["model_name"]) == (3, "champion", "digits")
    assert ended["stages"]["register"]["receipt"] == "r"
    assert "stand on the run's page" not in capsys.readouterr().err


def test_a_real_metadata_store_is_asked_and_understood(server: KubeflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def recorded(handler: Any, method: str) -> bytes:
        asked[method] = base64.b64encode(handler.content[5:]).decode()
        return frames(base64.b64decode(RECORDED["answers"][method]))

    monkeypatch.setattr("kubeflow_server._Handler._metadata", recorded)
    ended = end(server)
    assert asked == RECORDED["requests"]
    assert (ended["verdict"], ended["version"], ended["alias"]) == ("promote", 3, "champion")
    assert ended["metrics"] == {"mAP50": 0.795, "mAP50-95": 0.624}
    # The whole's, not a shard's.
    assert ended["stages"]["validate"]["receipt"] == "s3://results/elsewhere/validate/bb/receipt.json"


def test_an_evaluation_that_was_there_already_is_what_convert_found(server: KubeflowServer) -> None:
    results = {"verdict": "reject", "reason": "below the floor.", "evaluation_metrics": '{"mAP50": 0.25}'}
    server.state.outputs = {RUN: [("convert", {**NOT_YET, **results, "next": "nothing"})]}
    skipped = {"train", "evaluate", "register"}
    server.end(RUN, "SUCCEEDED", *(task(stage, None if stage in skipped else "SUCCEEDED") for stage in STAGES))
    ended = end(server)
    assert (ended["verdict"], ended["reason"], ended["metrics"]) == ("reject", "below the floor.", {"mAP50": 0.25})
    assert (ended["version"], list(ended["stages"])) == (None, ["snapshot", "validate", "convert", "cleanup"])


def test_of_a_task_that_ran_again_the_latest_counts(server: KubeflowServer) -> None:
    server.state.outputs = {RUN: [("evaluate", {**PROMOTED, "verdict": "keep"}), *TASKS]}
    assert end(server)["verdict"] == "promote"


def test_a_shards_outputs_are_not_its_stages(server: KubeflowServer) -> None:
    server.state.outputs = {RUN: [("validate", {"receipt": "whole"}), ("validate-2", {"receipt": "shard"}), *TASKS]}
    assert end(server)["stages"]["validate"]["receipt"] == "whole"


def test_a_success_without_a_receipt_is_none(server: KubeflowServer) -> None:
    server.state.outputs = {RUN: [*TASKS[:-1], ("register", {"receipt": "", "version": "3"})]}
    with pytest.raises(Defect, match="register has no receipt"):
        end(server)


def test_outputs_of_another_type_are_none(server: KubeflowServer) -> None:
    odd = {"receipt": "e", "verdict": 7.0, "reason": "it is.", "metrics": '{"mAP50": "high"}'}
    server.state.outputs = {RUN: [("evaluate", odd), ("register", {**REGISTERED, "version": "three"})]}
    ended = end(server)
    assert (ended["verdict"], ended["metrics"], ended["version"]) == (None, {}, "three")


def test_an_older_pipeline_has_no_reason_and_metrics(server: KubeflowServer) -> None:
    server.state.outputs = {RUN: [("evaluate", {"receipt": "e", "verdict": "keep"})]}
    ended = end(server)
    assert (ended["verdict"], ended["reason"], ended["metrics"]) == ("keep", None, {})


def test_hostile_text_is_shown_as_text(server: KubeflowServer) -> None:
    hostile = {**PROMOTED, "reason": "a\x1b[2J[bold]b", "metrics": '{"\\u001b[2Jx": 1.0}'}
    server.state.outputs = {RUN: [("evaluate", hostile), ("\x1b[2J", {"verdict": "keep"}), TASKS[-1]]}
    ended = end(server)
    assert ended["reason"] == "a\x1b[2J[bold]b"
    console = Console(file=(shown := io.StringIO()), width=200)
    for line in lines(ended):
        console.print(line)
    assert "[bold]b" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()


def test_a_failed_run_asks_for_no_outputs(server: KubeflowServer) -> None:
    server.end(RUN, "FAILED", task("train", "FAILED", "exit status 1"))
    with pytest.raises(Killed):
        end(server)
    assert not [path for _, path in server.state.asked if path.startswith(METADATA)]


def unknown(server: KubeflowServer) -> None:
    server.state.outputs = {"another": TASKS}


def api_alone(server: KubeflowServer) -> None:
    server.state.outputs = None


def answers(content: bytes) -> Any:
    def change(server: KubeflowServer) -> None:
        server.state.frames = content

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (unknown, "it knows nothing of this run"),
        (api_alone, "it answers 404"),
        (answers(frames(b"", 14)), "it answers with gRPC's status 14"),
        (answers(frames(b"\xff\xff")), "its answer can't be read"),
        (answers(frames(wire(1, wire(1, 1)))[:-3]), "its answer can't be read"),
        (answers(b"\0\0"), "its answer can't be read"),
    ],
)
def test_where_the_outputs_cant_be_read_one_sentence_says_where_they_stand(
    server: KubeflowServer, capsys: pytest.CaptureFixture[str], change: Any, why: str
) -> None:
    change(server)
    ended = end(server)
    assert (ended["verdict"], ended["version"], ended["metrics"]) == (None, None, {})
    assert set(ended["stages"]) == set(STAGES)
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if "stand on the run's page" in line]
    assert f"{server.host}/#/runs/details/{RUN}, and in MLflow" in sentence
    assert why in sentence
    assert "KF_PIPELINES_UI_ENDPOINT" in sentence


def test_a_page_or_a_login_in_place_of_the_outputs_is_told(server: KubeflowServer) -> None:
    run = run_of(server)
    state = run.state()
    server.state.page = True
    with pytest.raises(InvalidConfig, match="a page answers in its place"):
        run.with_outputs(state)
    server.state.login, server.state.cookie = True, "of-another"
    with pytest.raises(InvalidConfig, match="it answers 302"):
        run.with_outputs(state)
    # The token goes nowhere else.
    assert ("POST", "/login") not in server.state.asked
    server.close()
    with pytest.raises(VisionloopError, match="can't be reached"):
        run.with_outputs(state)


def test_the_callers_credentials_are_sent(server: KubeflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_EXISTING_TOKEN", "a-token")
    monkeypatch.setenv("KFP_COOKIES", "authservice_session=abc")
    server.state.token = "a-token"
    server.state.login, server.state.cookie = True, "authservice_session=abc"
    assert end(server)["verdict"] == "promote"


def test_the_metadata_lies_at_the_root_of_the_pages_address(
    server: KubeflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", f"{server.host}/pipeline")
    assert end(server)["verdict"] == "promote"
    connection = connect(server.host)
    for page, root in {"kubeflow.example.com/pipeline": "https://kubeflow.example.com", "": server.host}.items():
        monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", page)
        assert metadata._root(connection) == root
    connection.client.runs.api_client.configuration.host = "ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert metadata._root(connection) == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
