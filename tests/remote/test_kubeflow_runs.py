"""Runs on Kubeflow Pipelines, through its own client and over HTTP, against the part of its API that is asked."""

from __future__ import annotations

import copy
import functools
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_server import EPOCH, KubeflowServer, task

from visionloop.core.errors import AccessDenied, InvalidConfig, InvalidReceipt, Transient
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix
from visionloop.pipelines.engines.kubeflow import client as kubeflow_client
from visionloop.pipelines.engines.kubeflow import runs as kubeflow
from visionloop.pipelines.engines.kubeflow.client import connect
from visionloop.pipelines.following.state import RemoteState


@pytest.fixture
def server() -> Iterator[KubeflowServer]:
    running = KubeflowServer()
    yield running
    running.close()


@functools.cache
def train_pipeline() -> kubeflow.Compiled:
    return kubeflow.compiled_pipeline("train")


@pytest.fixture(scope="module")
def compiled() -> kubeflow.Compiled:
    return train_pipeline()


@pytest.fixture(autouse=True)
def once_compiled(compiled: kubeflow.Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a second; the pipeline of all these tests is one."""
    monkeypatch.setattr(kubeflow, "compiled_pipeline", lambda *_: compiled)
    monkeypatch.setenv("HOME", "/nonexistent")


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    workspace = tmp_path / "results"
    workspace.mkdir()
    return {"workspace": f"file://{workspace}", "model_name": "Digits", "dataset": "s3://datasets/digits"}


def test_a_run_starts_from_a_version_that_is_named_for_its_content(
    server: KubeflowServer, compiled: kubeflow.Compiled, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = kubeflow.submit("train", {**arguments, "epochs": "20", "advanced_config": '{"mosaic": 0}'}, host=server.host)

    (version,) = server.state.versions.values()
    (experiment,) = server.state.experiments.values()
    started = server.state.runs[run.run]
    assert version.display_name == f"visionloop-train-{compiled.sha256[:12]}"
    assert compiled.sha256 in version.description
    assert experiment.display_name == "Digits"
    assert started.experiment_id == experiment.experiment_id
    assert started.pipeline_version_reference["pipeline_version_id"] == version.pipeline_version_id
    assert started.runtime_config["parameters"] == {**arguments, "epochs": 20, "advanced_config": {"mosaic": 0}}
    assert run.name == started.display_name
    assert run.page == f"{server.host}/#/runs/details/{run.run}"
    assert run.run in run.follow_command()
    assert capsys.readouterr().out == ""


def test_what_is_uploaded_is_what_was_compiled(server: KubeflowServer, compiled: kubeflow.Compiled) -> None:
    kubeflow.upload(connect(server.host), compiled)
    (version,) = server.state.versions.values()
    assert kubeflow.ir_hash(version.pipeline_spec) == compiled.sha256
    assert set(version.pipeline_spec) == {"pipeline_spec", "platform_spec"}


def test_the_page_shows_what_a_pipeline_does(server: KubeflowServer, compiled: kubeflow.Compiled) -> None:
    kubeflow.upload(connect(server.host), compiled)
    (made,) = server.state.pipelines.values()
    assert (
        made.description == "Retrains a vision model from an annotated image dataset and registers it if it may serve."
    )


def test_a_second_run_uploads_nothing(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    runs = [kubeflow.submit("train", arguments, host=server.host).run for _ in range(2)]
    assert len(server.state.versions) == len(server.state.pipelines) == len(server.state.experiments) == 1
    assert len(set(runs)) == 2


def test_a_pipeline_that_somebody_else_makes_at_the_same_time_is_taken(
    server: KubeflowServer, compiled: kubeflow.Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = kubeflow._pipeline_id
    answers = iter([None])
    monkeypatch.setattr(kubeflow, "_pipeline_id", lambda *args: next(answers, None) or looked(*args))
    first = kubeflow.upload(connect(server.host), compiled)
    left = [None]
    monkeypatch.setattr(kubeflow, "_pipeline_id", lambda *args: left.pop() if left else looked(*args))
    assert kubeflow.upload(connect(server.host), compiled) == first
    assert len(server.state.pipelines) == 1


def test_a_version_of_that_name_with_another_content_is_refused(
    server: KubeflowServer, compiled: kubeflow.Compiled
) -> None:
    kubeflow.upload(connect(server.host), compiled)
    _change(next(iter(server.state.versions.values())))
    with pytest.raises(InvalidConfig, match="is not the pipeline that was compiled; delete it"):
        kubeflow.upload(connect(server.host), compiled)


def _change(version: Any) -> None:
    changed = copy.deepcopy(version.pipeline_spec)
    executors = changed["pipeline_spec"]["deploymentSpec"]["executors"]
    next(iter(executors.values()))["container"]["image"] = "elsewhere/other:1"
    version.pipeline_spec = changed


def test_the_record_repeats_the_trace_id_and_which_pipeline_runs(
    server: KubeflowServer, compiled: kubeflow.Compiled, arguments: dict[str, Any]
) -> None:
    run = kubeflow.submit("train", arguments, host=server.host, trace_id="trace-1")
    record = RunRecord(open_prefix(arguments["workspace"], "results"), run.run).read()
    assert record is not None
    assert record.trace_id == "trace-1"
    assert record.arguments["model_name"] == "Digits"
    assert record.arguments["pipeline"] == {
        "engine": "kfp",
        "name": "visionloop-train",
        "version": compiled.version,
        "sha256": compiled.sha256,
    }


def test_a_workspace_that_is_out_of_reach_is_said(
    server: KubeflowServer,
    arguments: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path / "no-services"))
    with caplog.at_level("INFO", logger="visionloop"):
        kubeflow.submit("train", {**arguments, "workspace": "s3://results/here"}, host=server.host, trace_id="t-1")
    assert "no keys of the store are set here" in caplog.text
    assert "the trace id t-1 is not handed on" in caplog.text


def test_a_state_is_told_stage_by_stage(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    assert run.state() == RemoteState("pending")
    server.end(
        run.run,
        "RUNNING",
        task("root-driver", "SUCCEEDED"),
        task("snapshot-driver", "SUCCEEDED"),
        task("snapshot", "SUCCEEDED"),
        task("executor", "SUCCEEDED"),
        task("convert", None),
        task("validate", "RUNNING"),
    )
    state = run.state()
    assert state.phase == "running"
    assert [(step.stage, step.state) for step in state.steps] == [
        ("snapshot", "succeeded"),
        ("validate", "running"),
        ("convert", "waiting"),
    ]
    assert state.steps[0].finished_at is not None
    assert state.steps[1].finished_at is None


def test_the_runs_own_end_is_told(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    held = server.state.runs[run.run]
    held.finished_at = datetime(1970, 1, 1, tzinfo=UTC)
    assert run.state().finished_at is None
    server.end(run.run, "SUCCEEDED", task("train", "SUCCEEDED"), task("evaluate", "RUNNING"))
    held.finished_at = EPOCH + timedelta(seconds=150)
    assert run.state().finished_at == held.finished_at


def test_of_a_stage_in_several_branches_the_one_that_ran_counts(
    server: KubeflowServer, arguments: dict[str, Any]
) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    server.end(
        run.run, "SUCCEEDED", task("register", "SKIPPED"), task("register-2", "SUCCEEDED"), task("evaluate", None)
    )
    assert [(step.stage, step.state) for step in run.state().steps] == [
        ("evaluate", "skipped"),
        ("register", "succeeded"),
    ]


def test_the_attempt_is_that_of_the_last_executor(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    nodes = [
        task("train", "RUNNING", node=1, children=(2,)),
        task("executor", "RUNNING", node=2, children=(3, 4)),
        task("executor(0)", "FAILED", "exit status 1", node=3),
        task("executor(1)", "RUNNING", node=4),
    ]
    server.end(run.run, "RUNNING", *nodes)
    (step,) = run.state().steps
    assert (step.stage, step.state, step.attempt) == ("train", "running", 2)
    for between in ("PENDING", "FAILED"):
        nodes[-1].state = between
        server.end(run.run, "RUNNING", *reversed(nodes))
        assert [(step.state, step.attempt) for step in run.state().steps] == [("waiting", 2)]


def test_an_installation_that_retries_whatever_it_runs_has_an_attempt_between(
    server: KubeflowServer, arguments: dict[str, Any]
) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    nodes = [
        task("train", "RUNNING", node=1, children=(2, 6)),
        task("train(0)", "FAILED", node=2, children=(3,)),
        task("executor", "FAILED", node=3, children=(4,)),
        task("executor(0)", "FAILED", node=4),
        task("train(1)", "RUNNING", node=6, children=(7,)),
        task("executor", "RUNNING", node=7, children=(8, 9)),
        task("executor(0)", "FAILED", node=8),
        task("executor(1)", "PENDING", node=9),
    ]
    server.end(run.run, "RUNNING", *nodes)
    assert [(step.state, step.attempt) for step in run.state().steps] == [("waiting", 3)]
    nodes[-1].state = "RUNNING"
    server.end(run.run, "RUNNING", *nodes)
    assert [(step.state, step.attempt) for step in run.state().steps] == [("running", 3)]


def test_a_task_that_the_server_lost_sight_of_has_ended_with_its_run(
    server: KubeflowServer, arguments: dict[str, Any]
) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    tasks = task("train", "SUCCEEDED"), task("evaluate", "RUNNING")
    for phase, seen in (("RUNNING", "running"), ("SUCCEEDED", "succeeded"), ("FAILED", "running")):
        server.end(run.run, phase, *tasks)
        assert [(step.stage, step.state) for step in run.state().steps] == [("train", "succeeded"), ("evaluate", seen)]


def test_what_comes_after_a_stage_is_no_attempt_of_it(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    server.end(
        run.run,
        "RUNNING",
        task("snapshot", "SUCCEEDED", node=1, children=(2,)),
        task("executor", "SUCCEEDED", node=2, children=(3,)),
        task("validate-driver", "SUCCEEDED", node=3, children=(4,)),
        task("validate", "RUNNING", node=4, children=(5,)),
        task("executor(2)", "PENDING", node=5),
    )
    assert [(step.stage, step.state, step.attempt) for step in run.state().steps] == [
        ("snapshot", "succeeded", 1),
        ("validate", "waiting", 3),
    ]


def test_a_failure_is_told_with_what_the_engine_says(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    server.end(run.run, "FAILED", task("train-driver", "FAILED", "no such parameter"), error="child failed")
    state = run.state()
    assert (state.phase, state.message) == ("failed", "child failed")
    assert [(step.stage, step.state, step.reason) for step in state.steps] == [("train", "failed", "no such parameter")]


def test_a_success_of_another_pipeline_does_not_count(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    server.end(run.run, "SUCCEEDED")
    assert run.state().phase == "succeeded"
    assert kubeflow.find(run.run, host=server.host).state().phase == "succeeded"
    _change(next(iter(server.state.versions.values())))
    for looked_at in (run, kubeflow.find(run.run, host=server.host)):
        with pytest.raises(InvalidReceipt, match="is not the pipeline that was compiled"):
            looked_at.state()


def test_a_run_is_found_by_its_id_and_by_its_name(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    kubeflow.submit("train", {**arguments, "run_name": "mine"}, host=server.host)
    run = kubeflow.submit("train", {**arguments, "run_name": "mine"}, host=server.host)
    for name in (run.run, "mine"):
        result = kubeflow.find(name, host=server.host)
        assert (result.run, result.name) == (run.run, "mine")
        assert result.arguments == {**arguments, "run_name": "mine"}
    with pytest.raises(InvalidConfig, match="there is no run 'yours'"):
        kubeflow.find("yours", host=server.host)


def test_a_namespace_is_needed_where_there_are_several_users(server: KubeflowServer, arguments: dict[str, Any]) -> None:
    server.state.multi_user = True
    with pytest.raises(InvalidConfig, match="serves several users there; give --namespace"):
        kubeflow.submit("train", arguments, host=server.host)
    run = kubeflow.submit("train", arguments, host=server.host, namespace="team-a")
    (experiment,) = server.state.experiments.values()
    (pipeline,) = server.state.pipelines.values()
    assert experiment.namespace == pipeline.namespace == "team-a"
    assert "--namespace team-a" in run.follow_command()


def test_a_namespace_is_left_out_where_there_are_no_users(
    server: KubeflowServer, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="visionloop"):
        kubeflow.submit("train", arguments, host=server.host, namespace="team-a")
    assert "--namespace team-a is not used" in caplog.text
    (experiment,) = server.state.experiments.values()
    assert not experiment.namespace


def test_a_token_is_sent(server: KubeflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.state.token = "a-token"
    with pytest.raises(AccessDenied, match="401: Request header error") as refused:
        connect(server.host)
    assert "KFP_EXISTING_TOKEN" in refused.value.sentence
    monkeypatch.setenv("KFP_EXISTING_TOKEN", "a-token")
    connect(server.host)


def test_a_service_accounts_token_is_read_from_its_file(
    server: KubeflowServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.state.token = "of-the-account"
    with pytest.raises(AccessDenied):
        connect(server.host)
    (tmp_path / "token").write_text("of-the-account")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    connect(server.host)


def test_the_cookies_of_a_session_pass_a_login_page(server: KubeflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.state.login, server.state.cookie = True, "authservice_session=abc"
    with pytest.raises(AccessDenied, match=r"asks for a login .*KFP_COOKIES"):
        connect(server.host)
    monkeypatch.setenv("KFP_COOKIES", "authservice_session=abc")
    connect(server.host)


def test_a_page_at_the_address_is_no_api(server: KubeflowServer) -> None:
    server.state.page = True
    with pytest.raises(InvalidConfig, match="answers with a page"):
        connect(server.host)


def test_an_address_is_needed(monkeypatch: pytest.MonkeyPatch, server: KubeflowServer) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidConfig, match="give --host"):
        connect()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host)
    assert connect().host == server.host


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Transient, match=r"can't be reached \(Failed to establish a new connection: .*refused"):
            connect(f"http://127.0.0.1:{held.getsockname()[1]}")


def test_a_server_without_tls_is_not_spoken_to_as_if_it_had(server: KubeflowServer) -> None:
    with pytest.raises(AccessDenied, match="no safe connection"):
        connect(server.host.replace("http:", "https:"))


def test_a_server_that_never_answers_is_given_up(server: KubeflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connect(server.host)
    monkeypatch.setattr(kubeflow_client, "TIMEOUT", (1, 0.05))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        connection.client._existing_config.host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with connection.asking(), pytest.raises(urllib3.exceptions.MaxRetryError, match="Read timed out"):
            connection.client.list_pipelines()


@pytest.mark.parametrize(
    ("status", "error"), [(401, AccessDenied), (403, AccessDenied), (503, Transient), (429, Transient)]
)
def test_a_refusal_is_told_by_its_remedy(
    server: KubeflowServer, arguments: dict[str, Any], status: int, error: type[Exception]
) -> None:
    run = kubeflow.submit("train", arguments, host=server.host)
    server.state.failing = (status, "no\nway")
    with pytest.raises(error, match=f"{status}: no way"):
        run.state()
    asked = len(server.state.asked)
    with pytest.raises(error):
        connect(server.host)
    assert len(server.state.asked) == asked + 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("epochs", "many", "epochs is 'many'; give a whole number"),
        ("epochs", 2.5, "epochs is 2.5; give a whole number"),
        ("epochs", True, "epochs is True; give a whole number"),
        ("lr0", "fast", "lr0 is 'fast'; give a number"),
        ("augment", "yes", "augment is 'yes'; give true or false"),
        ("advanced_config", "[1]", "give a JSON object"),
        ("advanced_config", "{", "give a JSON object"),
        ("advanced_config", {"classes": ["x" * 10_000]}, "advanced_config is longer than the 10000 bytes"),
        ("gpus", "1", "has no parameter 'gpus' on Kubeflow Pipelines"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    server: KubeflowServer, arguments: dict[str, Any], name: str, value: Any, sentence: str
) -> None:
    with pytest.raises(InvalidConfig) as refused:
        kubeflow.submit("train", {**arguments, name: value}, host=server.host)
    assert sentence in refused.value.sentence
    assert server.state.asked == []


def test_a_required_parameter_is_asked_for(compiled: kubeflow.Compiled) -> None:
    with pytest.raises(InvalidConfig, match="needs the parameter 'model_name'"):
        kubeflow.typed({"workspace": "file:///x"}, compiled)


@given(
    epochs=st.integers(-(2**53), 2**53),
    lr0=st.floats(allow_nan=False, allow_infinity=False),
    augment=st.booleans(),
    advanced=st.dictionaries(st.text(max_size=8), st.integers(-9, 9) | st.text(max_size=8), max_size=4),
)
def test_texts_and_values_mean_the_same(epochs: int, lr0: float, augment: bool, advanced: dict[str, Any]) -> None:
    values = {"workspace": "/w", "model_name": "m", "lr0": lr0, "augment": augment, "advanced_config": advanced}
    if abs(epochs) < 2**53:
        values["epochs"] = epochs
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    compiled = train_pipeline()
    assert kubeflow.typed(texts, compiled) == kubeflow.typed(values, compiled) == values


def test_an_ir_has_one_hash_in_whatever_form(compiled: kubeflow.Compiled) -> None:
    documents = kubeflow.ir_documents(compiled.text)
    as_a_server_tells = json.loads(json.dumps(documents), parse_int=float)
    assert kubeflow.ir_hash(as_a_server_tells) == compiled.sha256
    alone = {"pipeline_spec": documents["pipeline_spec"], "platform_spec": {}}
    assert kubeflow.ir_hash(documents["pipeline_spec"]) == kubeflow.ir_hash(alone) != compiled.sha256


def test_the_images_of_a_registry_are_compiled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("VISIONLOOP_REGISTRY", "registry.example.com/vision")
    monkeypatch.setenv("VISIONLOOP_TAG", "7")
    monkeypatch.setenv("VISIONLOOP_GPUS", "0")
    made = kubeflow.compiled_pipeline("train")
    assert "registry.example.com/vision/visionloop-trainer-ultralytics:7" in made.text
    assert "localhost/" not in made.text
    assert "nvidia.com/gpu" not in made.text
    monkeypatch.setenv("VISIONLOOP_GPUS", "some")
    with pytest.raises(InvalidConfig, match="VISIONLOOP_GPUS is 'some'"):
        kubeflow.compiled_pipeline("train")
    monkeypatch.delenv("VISIONLOOP_GPUS")
    with pytest.raises(InvalidConfig, match="There is no pipeline 'nothing'"):
        kubeflow.compiled_pipeline("nothing")


def test_a_stage_in_shards_runs_until_they_are_put_together() -> None:
    """The whole is the task without a number."""
    shards = [task("validate-2", "SUCCEEDED"), task("validate-2", "RUNNING"), task("validate-2-driver", "SUCCEEDED")]
    (step,) = kubeflow.steps(shards, "running")
    assert (step.stage, step.state, step.shards) == ("validate", "running", (1, 0))
    (step,) = kubeflow.steps([*shards, task("validate", None)], "running")
    assert step.state == "running"
    done = [task("validate-2", "SUCCEEDED"), task("validate-2", "SUCCEEDED")]
    assert [step.state for step in kubeflow.steps([*done, task("validate", "SUCCEEDED")], "running")] == ["succeeded"]
    (step,) = kubeflow.steps([*done, task("validate-2", "FAILED", "it broke"), task("validate", None)], "failed")
    assert (step.state, step.reason) == ("failed", "it broke")
