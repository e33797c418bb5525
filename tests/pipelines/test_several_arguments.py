"""Several datasets as a command, a form and a schedule pass them on, and what each engine does with them before a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.cli.beginning import started
from visionloop.pipelines.cli.options import Retraining, Training, flattened
from visionloop.pipelines.engines import Order, engine, pods
from visionloop.pipelines.engines.argo.runs import workflow_of
from visionloop.pipelines.engines.argo.schedules import cron_workflow
from visionloop.pipelines.engines.cluster import check_reachable
from visionloop.pipelines.engines.laptop.containers import mounts
from visionloop.pipelines.environment import needs
from visionloop.pipelines.following.cron import Cron
from visionloop.pipelines.parameters import RETRAIN

DAY, NIGHT = "s3://data/day", "s3://data/night"
HEAVY = {"uri": NIGHT, "name": "dark", "weight": 2}
TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "visionloop-retrain"},
    "spec": {"arguments": {"parameters": [{"name": name} for name in RETRAIN]}},
}


def arguments(*datasets: Any, kind: Callable[..., Training] = Training) -> dict[str, Any]:
    values = [entry if isinstance(entry, str) else json.dumps(entry) for entry in datasets]
    return kind(workspace="s3://results/work", model_name="x", dataset=values).arguments()


def test_an_option_that_is_given_twice_is_one_text_of_the_form() -> None:
    seen: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @flattened
    def run(training: Retraining) -> None:
        seen.append(training.arguments())

    words = ["--workspace", "s3://results/work", "--model-name", "x", "--dataset", DAY, "--dataset", json.dumps(HEAVY)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(seen[0]["dataset"]) == [DAY, HEAVY]


def test_one_dataset_is_passed_on_as_its_uri() -> None:
    assert arguments(DAY)["dataset"] == arguments(json.dumps([DAY]))["dataset"] == DAY


def test_what_a_form_can_not_hold_is_refused() -> None:
    many = [f"s3://data/{'x' * 150}{number}" for number in range(70)]
    with pytest.raises(InvalidConfig, match="--dataset is longer than the 10,000 bytes"):
        arguments(*many)


def test_argo_gets_the_list_and_a_label_of_the_names() -> None:
    sent = arguments(DAY, HEAVY)
    workflow = workflow_of(TEMPLATE, sent, "trace")
    (value,) = [entry["value"] for entry in workflow["spec"]["arguments"]["parameters"] if entry["name"] == "dataset"]
    assert json.loads(value) == [DAY, HEAVY]
    assert workflow["metadata"]["labels"][pods.DATASET_LABEL] == "day-dark"
    schedule = cron_workflow("nightly", "visionloop", TEMPLATE, sent, Cron.parse("0 3 * * *"), "UTC")
    assert value in json.dumps(schedule).replace('\\"', '"')
    with pytest.raises(InvalidConfig, match=r"--dataset .*Argo replaces"):
        workflow_of(TEMPLATE, {"dataset": json.dumps([DAY, {"uri": NIGHT, "name": "{{x}}"}])}, "trace")


def test_a_folder_among_the_datasets_is_beyond_a_pod(tmp_path: Path) -> None:
    check_reachable(arguments(DAY, HEAVY))
    with pytest.raises(InvalidConfig, match=f"--dataset {tmp_path.as_uri()}/day lies on this machine"):
        check_reachable(arguments(NIGHT, str(tmp_path / "day")))


def test_containers_see_each_folder(tmp_path: Path) -> None:
    for name in ("day", "night"):
        (tmp_path / name).mkdir()
    sent = arguments(str(tmp_path / "day"), {"uri": str(tmp_path / "night"), "weight": 2})
    mounted = mounts(sent | {"workspace": str(tmp_path / "work")}, {})
    assert mounted[tmp_path / "day"] == (tmp_path / "day", True)
    assert mounted[tmp_path / "night"] == (tmp_path / "night", True)


def test_the_embedded_store_is_started_for_any_of_them(tmp_path: Path) -> None:
    assert "EXTERNAL_S3_" in needs(arguments(str(tmp_path), NIGHT))
    assert "EXTERNAL_S3_" not in needs(arguments(str(tmp_path / "day"), str(tmp_path / "night")))


def test_the_first_line_of_a_run_names_them() -> None:
    line = started(engine("argo"), Order("train", arguments(DAY, HEAVY)))
    assert f"datasets {DAY} and {NIGHT} (weight 2)," in line
