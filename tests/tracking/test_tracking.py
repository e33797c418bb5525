"""Tracking against a real MLflow on SQLite."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from tracked_training import HASH, Started

from visionloop.training.tracking import attach
from visionloop.training.tracking.address import shown
from visionloop.training.tracking.connection import connect, describe
from visionloop.training.tracking.mlflow_tracker import ARTIFACTS_VARIABLE


@pytest.fixture
def experiment() -> str:
    return f"experiment-{uuid.uuid4().hex[:8]}"


def started(environment: dict[str, str], experiment: str, run_id: str | None = None, **params: Any) -> Started:
    return Started(
        environment,
        experiment=experiment,
        earlier={"mlflow": {"run_id": run_id, "url": None}} if run_id else {},
        params={"epochs": 3, "lr0": 0.01, "model": "yolo11n", **params},
        tags={"visionloop.trace_id": "trace", "visionloop.snapshot": "s3://results/snapshot/receipt.json"},
    )


def test_each_of_several_datasets_is_an_input(environment: dict[str, str], experiment: str) -> None:
    uris = ("s3://datasets/bolts", "file:///data/nuts", "s3://other/bolts")
    for value, names in ((uris[:2], ["bolts", "nuts"]), (uris, list(uris))):
        tracker = Started(environment, experiment=experiment, dataset_uris=value)
        inputs = [entry.dataset for entry in connect(environment).get_run(tracker.run_id).inputs.dataset_inputs]
        assert sorted(entry.name for entry in inputs) == sorted(names)
        assert sorted(json.loads(entry.source)["uri"] for entry in inputs) == sorted(value)


def history(environment: dict[str, str], run_id: str | None, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in connect(environment).get_metric_history(run_id, name)]


def test_a_training_is_one_run_with_everything(environment: dict[str, str], experiment: str) -> None:
    tracker = started(environment, experiment)
    for epoch in (1, 2, 3):
        tracker.log_epoch(epoch, {"mAP50-95": epoch / 10, "box_loss": 1 / epoch, "metrics/mAP50(B)": 0.5})
    tracker.finish("succeeded")
    client = connect(environment)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run 1"
    assert run.data.params == {"epochs": "3", "lr0": "0.01", "model": "yolo11n"}
    assert run.data.tags["visionloop.trace_id"] == "trace"
    assert run.data.tags["visionloop.snapshot"] == "s3://results/snapshot/receipt.json"
    assert not [name for name in run.data.metrics if name.startswith("final")]
    assert history(environment, tracker.run_id, "mAP50-95") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert history(environment, tracker.run_id, "metrics/mAP50_B_") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "bolts"
    assert json.loads(dataset.dataset.source) == {"uri": "s3://datasets/bolts", "sha256": HASH}
    assert HASH.startswith(dataset.dataset.digest)
    stored = client.get_experiment(run.info.experiment_id)
    assert stored.name == experiment
    assert stored.artifact_location == "s3://results/workspace/mlflow"
    assert stored.tags["mlflow.experimentKind"] == "custom_model_development"
    assert tracker.record == {"mlflow": {"run_id": tracker.run_id, "url": None}}


def test_no_password_of_an_address_and_no_character_that_acts_reaches_mlflow(
    environment: dict[str, str], experiment: str
) -> None:
    signed = "https://somebody:word@h/weights\u202e?X-Amz-Signature=a1"
    tracker = started(environment, experiment, model=signed)
    tracker.finish("failed")
    run = connect(environment).get_run(tracker.run_id)
    assert run.data.params["model"] == r"https://***@h/weights\u202e?X-Amz-Signature=***"


@pytest.mark.parametrize(
    ("workspace", "own", "expected"),
    [
        ("file:///results", "/home/a b/artifacts", "file:///home/a%20b/artifacts"),
        ("file:///results", "", "file:///results/mlflow"),
        ("s3://results/workspace", "/home/artifacts", "s3://results/workspace/mlflow"),
    ],
)
def test_an_experiment_of_a_run_on_folders_keeps_its_artifacts_in_the_home(
    environment: dict[str, str], experiment: str, workspace: str, own: str, expected: str
) -> None:
    Started({**environment, ARTIFACTS_VARIABLE: own}, experiment=experiment, workspace=workspace)
    made = connect(environment).get_experiment_by_name(experiment)
    assert made is not None
    assert made.artifact_location == expected


def test_a_retried_training_goes_on_in_its_run(environment: dict[str, str], experiment: str) -> None:
    first = started(environment, experiment)
    first.log_epoch(1, {"mAP50": 0.1})
    first.log_epoch(2, {"mAP50": 0.2})
    # Killed here; the next attempt resumes from the checkpoint of epoch 1 and does epoch 2 again.
    second = started(environment, experiment, first.run_id, epochs=99)
    assert second.run_id == first.run_id
    second.log_epoch(2, {"mAP50": 0.2})
    second.log_epoch(3, {"mAP50": 0.3})
    second.finish("succeeded")
    second.finish("succeeded")
    assert history(environment, first.run_id, "mAP50") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    run = connect(environment).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "3"  # what was logged can't be changed
    assert len(run.inputs.dataset_inputs) == 1


def test_an_experiment_that_is_there_is_shown_as_one_of_models_too(
    environment: dict[str, str], experiment: str
) -> None:
    client = connect(environment)
    client.create_experiment(experiment)
    started(environment, experiment)
    assert client.get_experiment_by_name(experiment).tags["mlflow.experimentKind"] == "custom_model_development"
    client.set_experiment_tag(client.get_experiment_by_name(experiment).experiment_id, "mlflow.experimentKind", "other")
    started(environment, experiment)  # what a person chose stays
    assert client.get_experiment_by_name(experiment).tags["mlflow.experimentKind"] == "other"


def test_files_and_later_metrics_stand_on_the_runs_page(
    environment: dict[str, str], experiment: str, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    tracker = Started(environment, experiment=experiment, workspace=(tmp_path / "workspace").as_uri())
    plot = tmp_path / "results.png"
    plot.write_bytes(b"picture")
    tracker.attach({"plots/results.png": plot, "reports/validate.html": b"<p>valid</p>"})
    tracker.finish("succeeded")
    for _ in range(2):  # a second attempt at evaluate
        files = {
            "reports/evaluate.html": b"<p>good</p>",
            "tables/classes.json": b'{"columns":["class"],"data":[["cat"]]}',
        }
        attach(environment, tracker.record, {"test/mAP50": 0.5}, files)
    client = connect(environment)
    run_id = str(tracker.run_id)
    assert [file.path for file in client.list_artifacts(run_id)] == ["plots", "reports", "tables"]
    # As MLflow's own `log_table` does it: the page shows it as a table.
    tag = json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert tag == [{"path": "tables/classes.json", "type": "table"}]
    assert [file.path for file in client.list_artifacts(run_id, "reports")] == [
        "reports/evaluate.html",
        "reports/validate.html",
    ]
    assert Path(client.download_artifacts(run_id, "plots/results.png")).read_bytes() == b"picture"
    assert history(environment, run_id, "test/mAP50") == [(0, 0.5)]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert not [line for line in lines.messages if "left out" in line]


def test_files_that_can_not_be_stored_are_left_out_aloud(
    environment: dict[str, str], experiment: str, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("S3_ACCESS_KEY", "key")
    monkeypatch.setenv("S3_SECRET_KEY", "secret")
    tracker = started(environment, experiment)
    tracker.attach({"plots/results.png": b"picture"})
    attach(environment, tracker.record, {"test/mAP50": 0.5}, {"model_card.md": b"card"})
    attach(environment, "not tracked", {"test/mAP50": 0.5}, {})
    left_out = [line for line in lines.messages if line.startswith("left out of")]
    assert len(left_out) == 2
    assert "plots/results.png" in left_out[0]
    assert history(environment, tracker.run_id, "test/mAP50") == [(0, 0.5)]
    tracker.finish("succeeded")
    assert connect(environment).get_run(tracker.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("gone", ["f" * 32, "no-run-id", "deleted"])
def test_a_run_that_is_gone_is_opened_anew(environment: dict[str, str], experiment: str, gone: str) -> None:
    if gone == "deleted":
        gone = str(started(environment, experiment).run_id)
        connect(environment).delete_run(gone)
    tracker = started(environment, experiment, gone)
    assert tracker.run_id not in (None, gone)


@pytest.mark.parametrize(("status", "expected"), [("failed", "FAILED"), ("cancelled", "KILLED"), ("KILLED", "KILLED")])
def test_the_end_is_told(environment: dict[str, str], experiment: str, status: str, expected: str) -> None:
    tracker = started(environment, experiment)
    tracker.finish(status)
    assert connect(environment).get_run(tracker.run_id).info.status == expected


@pytest.mark.parametrize("handed_in", [True, False])
def test_a_run_that_kfp_injected_becomes_the_parent(
    environment: dict[str, str], experiment: str, handed_in: bool
) -> None:
    parent = started(environment, experiment)
    run_id = parent.run_id if handed_in else None
    injected = {**environment, "MLFLOW_RUN_ID": str(parent.run_id)}
    child = started(injected, "another", run_id)
    run = connect(environment).get_run(child.run_id)
    assert child.run_id != parent.run_id
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.info.experiment_id == connect(environment).get_experiment_by_name(experiment).experiment_id
    child.finish("succeeded")
    assert connect(environment).get_run(parent.run_id).info.status == "RUNNING"


def test_an_injected_run_of_another_mlflow_is_passed_over(environment: dict[str, str], experiment: str) -> None:
    tracker = started({**environment, "MLFLOW_RUN_ID": "f" * 32}, experiment)
    assert "mlflow.parentRunId" not in connect(environment).get_run(tracker.run_id).data.tags


def test_values_that_no_metric_has_are_told_too(environment: dict[str, str], experiment: str) -> None:
    tracker = started(environment, experiment)
    tracker.log_epoch(1, {"box_loss": math.nan})
    assert math.isnan(history(environment, tracker.run_id, "box_loss")[0][1])


def test_many_and_long_parameters_and_tags(environment: dict[str, str], experiment: str) -> None:
    many = {f"setting {number} (odd)": "x" * 7000 for number in range(150)}
    tracker = started(environment, experiment, **many)
    params = connect(environment).get_run(tracker.run_id).data.params
    assert len(params) == 153
    assert len(params["setting 7 _odd_"]) == 6000


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"MLFLOW_TRACKING_URI": ""}, "MLFLOW_TRACKING_URI"),
        ({"MLFLOW_ENABLED": "False"}, "MLFLOW_ENABLED"),
        ({"OBSERVABILITY_BACKENDS": " , "}, "OBSERVABILITY_BACKENDS"),
    ],
)
def test_not_tracked_is_said(
    environment: dict[str, str], lines: pytest.LogCaptureFixture, variables: dict[str, str], why: str
) -> None:
    tracker = started({**environment, **variables}, "experiment")
    tracker.log_epoch(1, {"mAP50": 0.1})
    tracker.finish("succeeded")
    assert tracker.record == "not tracked"
    (line,) = lines.messages
    assert line.startswith("not tracked: ")
    assert why in line


def test_tracked_is_said_once(environment: dict[str, str], experiment: str, lines: pytest.LogCaptureFixture) -> None:
    tracker = started({**environment, "OBSERVABILITY_BACKENDS": "MLflow, mlflow"}, experiment)
    tracker.log_epoch(1, {"mAP50": 0.1})
    assert [line for line in lines.messages if "track" in line] == [f"tracked: mlflow run {tracker.run_id}"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "sqlite:///{file}/mlflow.db",
        "nonsense://somewhere",
        "http://user:secret@127.0.0.1:9",
    ],
)
def test_a_tracker_that_fails_never_fails_a_training(
    uri: str, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").touch()
    tracker = started({"MLFLOW_TRACKING_URI": uri.format(file=tmp_path / "file")}, "experiment")
    tracker.log_epoch(1, {"mAP50": 0.1})
    tracker.finish("succeeded")
    assert tracker.record["mlflow"].items() >= {"run_id": None, "url": None}.items()
    assert tracker.record["mlflow"]["problem"]
    failures = [line for line in lines.messages if line.startswith("tracking failed: ")]
    assert len(failures) == 1
    assert "secret" not in failures[0]


def test_what_a_tracker_missed_is_told_when_it_is_back(
    environment: dict[str, str], experiment: str, mlflow_database: Path, lines: pytest.LogCaptureFixture
) -> None:
    tracker = started(environment, experiment)
    tracker.log_epoch(1, {"mAP50": 0.1})
    # The store refuses for a while: its table of metrics is gone, as after a failed migration.
    import sqlite3

    with sqlite3.connect(mlflow_database) as database:
        database.execute("ALTER TABLE metrics RENAME TO away")
    tracker.log_epoch(2, {"mAP50": 0.2})
    tracker.log_epochs({1: {"mAP50": 0.1}, 3: {"mAP50": 0.3}, 4: {"mAP50": 0.4}})
    assert sum(line.startswith("tracking failed: ") for line in lines.messages) == 1
    with sqlite3.connect(mlflow_database) as database:
        database.execute("ALTER TABLE away RENAME TO metrics")
    database.close()
    tracker.finish("succeeded")
    assert history(environment, tracker.run_id, "mAP50") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert connect(environment).get_run(tracker.run_id).info.status == "FINISHED"


def test_more_epochs_than_are_kept_for_later_all_reach_a_tracker_that_answers(
    environment: dict[str, str], experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionloop.training.tracking.lane.KEPT_EPOCHS", 2)
    tracker = started(environment, experiment)
    tracker.log_epochs({epoch: {"mAP50": epoch / 10} for epoch in range(1, 6)})
    tracker.finish("succeeded")
    assert [epoch for epoch, _ in history(environment, tracker.run_id, "mAP50")] == [1, 2, 3, 4, 5]


def test_nothing_imports_mlflow_before_somebody_asks() -> None:
    """A reused stage must not pay the seconds that the import takes."""
    code = (
        "import sys; import visionloop.training.tracking, visionloop.registry,"
        " visionloop.components.evaluate, visionloop.components.register, visionloop.components.train;"
        " print([name for name in ('mlflow', 'torch', 'ultralytics', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_telemetry_is_off_before_mlflow_is_imported(environment: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import os, sys; from visionloop.training.tracking.connection import connect; connect(os.environ);"
        " from mlflow.telemetry import get_telemetry_client; from mlflow.telemetry.utils import is_telemetry_disabled;"
        " print(is_telemetry_disabled(), get_telemetry_client())"
    )
    # MLflow switches its telemetry off by itself in what looks like a test or a build server: none of that here.
    passed = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=passed | environment, cwd=tmp_path
    )
    assert done.stdout == "True None\n"
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_shown_without_their_secrets() -> None:
    assert shown("https://user:secret@host:5000/path?token=x") == "https://host:5000/path"
    assert "secret" not in describe(ValueError("failed at https://user:secret@host/ now"))
