"""Schedules on Kubeflow Pipelines, through its own client and over HTTP."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubeflow_server import EPOCH, KubeflowServer
from typer.testing import CliRunner

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.cli import schedule
from visionloop.pipelines.engines.kubeflow import runs as kubeflow
from visionloop.pipelines.engines.kubeflow.schedules import KubeflowSchedules
from visionloop.pipelines.following.cron import Cron

ARGUMENTS = {"workspace": "s3://results/here", "model_name": "Digits", "dataset": "s3://datasets/digits"}


@functools.cache
def pipeline() -> kubeflow.Compiled:
    return kubeflow.compiled_pipeline("retrain")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowServer]:
    compiled = pipeline()
    monkeypatch.setattr(kubeflow, "compiled_pipeline", lambda *_: compiled)
    monkeypatch.setenv("HOME", "/nonexistent")
    running = KubeflowServer()
    yield running
    running.close()


def test_a_schedule_is_a_recurring_run_of_the_uploaded_version(server: KubeflowServer) -> None:
    result = KubeflowSchedules(server.host).create(
        "nightly", "retrain", {**ARGUMENTS, "epochs": "20"}, Cron.parse("0 3 * * *"), "UTC"
    )
    (recurring,) = server.state.recurring.values()
    (version,) = server.state.versions.values()
    assert recurring.display_name == "nightly"
    assert recurring.trigger == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert recurring.pipeline_version_reference["pipeline_version_id"] == version.pipeline_version_id
    assert recurring.runtime_config["parameters"] == {**ARGUMENTS, "epochs": 20}
    # The API tells 64-bit numbers as text.
    assert int(recurring.max_concurrency) == 1
    assert recurring.no_catchup is True
    assert recurring.mode == "ENABLE"
    assert (result.name, result.pipeline, result.cron) == ("nightly", "visionloop-retrain", "0 3 * * *")
    assert (result.timezone, result.state, result.last) == (None, "active", None)
    assert result.next is not None
    assert result.next > datetime.now(UTC)


def test_a_schedule_is_paused_resumed_and_deleted(server: KubeflowServer) -> None:
    result = KubeflowSchedules(server.host)
    result.create("nightly", "retrain", ARGUMENTS, Cron.parse("@daily"), "UTC")
    result.pause("nightly")
    assert [(entry.state, entry.next) for entry in result.list()] == [("paused", None)]
    result.resume("nightly")
    assert [entry.state for entry in result.list()] == ["active"]
    result.delete("nightly")
    assert result.list() == []
    for change in (result.pause, result.resume, result.delete):
        with pytest.raises(InvalidConfig, match="there is no schedule nightly"):
            change("nightly")


def test_the_last_run_is_told(server: KubeflowServer) -> None:
    result = KubeflowSchedules(server.host)
    result.create("nightly", "retrain", ARGUMENTS, Cron.parse("@daily"), "UTC")
    (recurring,) = server.state.recurring
    client = result._connection.client
    run = client.api_models.V2beta1Run(display_name="a", run_id="1", created_at=EPOCH, recurring_run_id=recurring)
    server.state.runs["1"] = run
    assert [entry.last for entry in result.list()] == [EPOCH]


def test_foreign_recurring_runs_are_left_alone(server: KubeflowServer) -> None:
    result = KubeflowSchedules(server.host)
    models = result._connection.client.api_models
    server.state.recurring["x"] = models.V2beta1RecurringRun(recurring_run_id="x", display_name="theirs")
    assert result.list() == []
    with pytest.raises(InvalidConfig, match="there is no schedule theirs"):
        result.delete("theirs")


def test_a_name_is_used_once(server: KubeflowServer) -> None:
    result = KubeflowSchedules(server.host)
    result.create("nightly", "retrain", ARGUMENTS, Cron.parse("@daily"), "UTC")
    with pytest.raises(InvalidConfig, match="there is a schedule nightly already"):
        result.create("nightly", "retrain", ARGUMENTS, Cron.parse("@daily"), "UTC")
    assert len(server.state.recurring) == 1


def test_a_time_zone_is_refused(server: KubeflowServer) -> None:
    with pytest.raises(InvalidConfig, match="keeps one time zone for all schedules"):
        KubeflowSchedules(server.host).create("n", "retrain", ARGUMENTS, Cron.parse("@daily"), "Asia/Seoul")
    assert server.state.recurring == server.state.versions == {}


def command(*words: str) -> Any:
    return CliRunner().invoke(schedule.application, list(words), catch_exceptions=True)


def create_words(server: KubeflowServer, *words: str) -> list[str]:
    fields = {"workspace": "s3://results/here", "model-name": "Digits", "dataset": "s3://datasets/digits"}
    options = [word for name, value in fields.items() for word in (f"--{name}", value)]
    return ["create", "nightly", "--engine", "kfp", "--host", server.host, *options, *words]


def test_the_command_makes_lists_and_removes(server: KubeflowServer) -> None:
    policy = '{"min_new_images": 50}'
    made = command(
        *create_words(server, "--cron", "0 3 * * 1", "--set", "epochs=20", "--retraining", policy, "--output", "text")
    )
    assert made.exit_code == 0, made.output
    assert "nightly is made; its next run starts at 20" in made.output
    (recurring,) = server.state.recurring.values()
    sent = recurring.runtime_config["parameters"]
    assert (sent["epochs"], json.loads(sent["retraining"])["min_new_images"]) == (20, 50)
    engine_options = ["--engine", "kfp", "--host", server.host]
    heading, line = command("list", *engine_options, "--output", "text").output.splitlines()
    assert heading.split() == ["NAME", "CRON", "ZONE", "STATE", "LAST", "NEXT", "MODEL"]
    assert line.split()[0] == "nightly"
    assert line.split()[-1] == "Digits"
    (listed,) = json.loads(command("list", *engine_options, "--json").output)["schedules"]
    assert json.loads(command("list", *engine_options).output)["schedules"] == [listed]
    assert (listed["name"], listed["cron"], listed["state"]) == ("nightly", "0 3 * * 1", "active")
    for verb, state in (("pause", "paused"), ("resume", "active"), ("delete", "deleted")):
        assert json.loads(command(verb, "nightly", *engine_options).output) == {"name": "nightly", "state": state}
    assert server.state.recurring == {}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cron", "0 3 * *"), "give five fields"),
        (("--cron", "@daily", "--timezone", "Mars/Base"), "there is no such time zone"),
        (("--cron", "@daily", "--parameter", "gpus=0"), "--parameter works with --engine argo alone"),
        (("--cron", "@daily", "--workspace", "/tmp/here"), "lies on this machine"),
        (("--cron", "@daily", "--snapshot", "snap_0123456789ab"), "Give either --dataset"),
    ],
)
def test_what_is_wrong_is_refused_before_the_server_is_asked(
    server: KubeflowServer, words: tuple[str, ...], sentence: str
) -> None:
    refused = command(*create_words(server, *words))
    assert isinstance(refused.exception, InvalidConfig)
    assert sentence in refused.exception.sentence
    assert server.state.asked == []


@pytest.mark.parametrize("name", ["Nightly", "a" * 53, "-a", "a-", "a.b", ""])
def test_a_name_must_suit_every_engine(server: KubeflowServer, name: str) -> None:
    words = create_words(server, "--cron", "@daily")
    words[1] = name
    refused = command("create", *words[2:], "--", name)
    assert isinstance(refused.exception, InvalidConfig)
    assert "The schedule's name" in refused.exception.sentence
