"""The command line's own checks, before anything is asked of an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from typer.testing import CliRunner

from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.cli.options import checks_text, policy_text
from visionloop.pipelines.engines import Order, engine
from visionloop.pipelines.engines.cluster import ClusterEngine, check_reachable
from visionloop.pipelines.following.follow import stages_of
from visionloop.pipelines.parameters import measure_form
from visionloop.pipelines.targets import cluster

DATA = ["--dataset", "s3://datasets/d", "--workspace", "s3://results/w", "--model-name", "m"]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Calls the command line, and returns the sentence of its refusal."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: str) -> str:
        ended = CliRunner().invoke(application(list(words)), list(words))
        assert isinstance(ended.exception, VisionloopError), ended.output
        assert ended.exception.exit_code == 78
        return ended.exception.sentence

    return call


@pytest.mark.parametrize("engine", ["argo", "kfp"])
@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        (["--dataset", "bottles", *DATA[2:]], "--dataset file://"),
        ([*DATA[:2], "--workspace", "work", *DATA[4:]], "--workspace file://"),
        ([*DATA, "--gate", "file:///gate.json"], "--gate file:///gate.json"),
    ],
)
def test_a_folder_of_this_machine_is_nothing_for_a_pod(
    refused: Callable[..., str], engine: str, words: list[str], beginning: str
):
    sentence = refused("run", "train", "--engine", engine, *words)
    assert sentence.startswith(beginning)
    assert "lies on this machine, where no pod of an engine can reach it; give an s3:// URI." in sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "argo", "--run", "r"], "--run works on this machine alone"),
        (["--engine", "kfp", "--force", "train"], "--force works on this machine alone"),
        (["--engine", "kfp", "--parameter", "gpus=0"], "--parameter works with --engine argo alone"),
        (["--engine", "argo", "--parameter", "gpus"], "--parameter gpus: give NAME=VALUE"),
        (["--engine", "argo", "--parameter", "epochs=3"], "--parameter epochs=3: epochs has an option of its own"),
        (["--detach"], "--detach is for an engine; give --engine argo or kfp too"),
        (["--namespace", "n"], "--namespace is for an engine"),
        (["--host", "h"], "--host is for an engine"),
        (["--parameter", "gpus=0"], "--parameter is for an engine"),
        (["--engine", "argo", "--gate", '{"flor": 0}'], "flor"),
        (["--engine", "argo", "--snapshot", "snap_0"], "Give either --dataset"),
        (["--engine", "argo"], "Nothing says where the cluster is: set KUBECONFIG"),
        (["--engine", "kfp"], "Kubeflow Pipelines needs an address"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_starts(refused: Callable[..., str], words: list[str], sentence: str):
    assert sentence in refused("run", "train", *DATA, *words)


def test_a_run_of_this_machine_is_not_followed(refused: Callable[..., str]):
    assert "--engine local: a run on this machine is followed where it was started" in refused(
        "run", "follow", "r", "--engine", "local"
    )


@pytest.mark.parametrize("text", ['{"min_new_images": 3}', "min_new_images: 3\n"])
def test_a_policys_file_is_handed_on_as_json(tmp_path: Path, text: str):
    (tmp_path / "policy").write_text(text)
    assert json.loads(policy_text(str(tmp_path / "policy"))) == {"min_new_images": 3}


def test_a_policy_at_a_uri_is_left_to_the_stage():
    assert policy_text("s3://results/policy.yaml") == "s3://results/policy.yaml"


@pytest.mark.parametrize("policy", ['{"min_images": 3}', "nowhere.yaml"])
def test_a_policy_that_is_none_is_told_before_anything_starts(policy: str):
    with pytest.raises(InvalidConfig, match=r"--retraining"):
        policy_text(policy)


@pytest.mark.parametrize("text", ['{"area": "off"}', "area: off\n"])
def test_a_file_of_checks_is_handed_on_as_json_of_what_is_not_the_default(tmp_path: Path, text: str):
    (tmp_path / "checks").write_text(text)
    assert json.loads(checks_text(str(tmp_path / "checks"))) == {"area": {"severity": "off"}}
    assert json.loads(checks_text('{"close_boxes": {"threshold": 0.9}}')) == {}
    assert checks_text("s3://results/checks.yaml") == "s3://results/checks.yaml"
    with pytest.raises(InvalidConfig, match="the nearest one is same_bytes"):
        checks_text('{"same_byte": "off"}')


def test_checks_on_this_machine_are_out_of_a_pods_reach():
    with pytest.raises(InvalidConfig, match=r"--checks file:///x\.json lies on this machine"):
        check_reachable({"checks": "file:///x.json"})


def test_what_lies_in_a_store_can_be_reached():
    check_reachable({"workspace": "s3://results/w", "dataset": "s3://datasets/d", "gate": '{"floor": 0}'})


MEASURED = ["run", "evaluate", "--dataset", "s3://datasets/d", "--workspace", "s3://results/w"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "bottles@champion", "--engine", "argo"], "Nothing says where the cluster is: set KUBECONFIG"),
        (["--model", "best.pt", "--engine", "argo"], "best.pt lies on this machine, where no pod of an engine"),
        (["--model", "bottles@champion", "--engine", "kfp", "--split-name", "tset"], "--split-name"),
        (["--model", "bottles@champion", "--trainer", "timm"], "--trainer is for an engine"),
        (["--model", "bottles@champion", "--runner", "docker"], "leave out --runner"),
    ],
)
def test_a_measurement_goes_to_an_engine_too(refused: Callable[..., str], words: list[str], sentence: str):
    assert sentence in refused(*MEASURED, *words)


def test_a_measurement_is_submitted_with_the_arguments_of_its_form(monkeypatch: pytest.MonkeyPatch):
    orders = []

    def submitted(_: ClusterEngine, order: Order) -> NoReturn:
        orders.append(order)
        raise InvalidConfig("That is all.")

    monkeypatch.setattr(type(engine("argo")), "submit", submitted)
    words = [*MEASURED, "--model", "s3://results/best.pt", "--set", "imgsz=64", "--trainer", "timm", "--engine", "argo"]
    with pytest.raises(InvalidConfig, match="That is all"):
        application(words)(words, standalone_mode=False)
    (order,) = orders
    assert order.pipeline == "measure"
    assert order.arguments["settings"] == {"imgsz": "64"}
    assert set(order.arguments) <= set(measure_form(cluster().trainers))
    assert stages_of(order.arguments) == ("snapshot", "validate", "convert", "evaluate", "cleanup")


def test_every_pipeline_can_be_made():
    import importlib

    from visionloop.pipelines.engines.laptop.run import MADE_BY
    from visionloop.pipelines.targets import laptop

    for entry in MADE_BY.values():
        module, _, name = entry.partition(":")
        assert isinstance(getattr(importlib.import_module(module), name)(laptop()).name, str)


def test_train_and_retrain_take_the_same_but_for_the_policy():
    run = typer.main.get_command(application([])).commands["run"]  # type: ignore[attr-defined]
    options = {name: {entry.name for entry in run.commands[name].params} for name in ("train", "retrain")}
    assert options["retrain"] - options["train"] == {"retraining"}
    assert options["train"] - options["retrain"] == set()
