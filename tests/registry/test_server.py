"""The same through a real ``mlflow server`` process and a real S3, as on a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_detector
from PIL import Image
from tracked_training import Started

from visionloop.core.errors import InvalidConfig, Transient
from visionloop.core.storage import read_uri
from visionloop.registry import Registry, resolve_model

pytestmark = pytest.mark.slow

PATIENCE = 120


@pytest.fixture(scope="module")
def server(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the store; its URI."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri, folder = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "mlflow", "server", f"--backend-store-uri=sqlite:///{mlflow_database}"]
    command += ["--default-artifact-root=s3://results/mlflow", "--no-serve-artifacts", "--host=127.0.0.1"]
    command += [f"--port={port}", "--workers=1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | quiet)
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(uri):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def on_server(server: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The server's registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return Registry({"MLFLOW_TRACKING_URI": server})


def test_the_whole_way_over_http_and_s3(
    on_server: Registry,
    toy: toy_detector.ToyTrainer,
    name: str,
    s3: Any,
    s3_workspace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    dataset = toy_detector.write_dataset(tmp_path / "dataset")
    prepared = toy_detector.prepare(dataset, s3_workspace)
    first = prepared.evaluate(prepared.train(4), name)
    assert prepared.register(first, name).summary()["alias"] == "champion"
    better = prepared.register(prepared.evaluate(prepared.train(1), name), name).summary()
    assert (better["version"], better["alias"]) == (2, "champion")
    worse = prepared.register(prepared.evaluate(prepared.train(6), name), name).summary()
    assert (worse["version"], worse["alias"]) == (3, "challenger")
    again = prepared.register(prepared.evaluate(prepared.train(1), name), name)
    assert again.reused
    champion = on_server.champion(name)
    assert champion is not None
    assert champion.source.startswith(f"{s3_workspace}/register/")
    assert champion.tags["visionloop.storage_uri"] == f"{s3_workspace}/models/{name}/2"
    environment = {"MLFLOW_TRACKING_URI": on_server.uri}
    assert b'"offset":1' in read_uri(resolve_model(f"models:/{name}@champion", environment), "results")
    # A user's process: MLflow reads the model from the results store by itself.
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.keys.secret)
    image = dataset / "images" / "0.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        mlflow.set_tracking_uri(on_server.uri)
        model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
        (result,) = model.predict([str(image)])
        assert model.predict(np.asarray(Image.open(image).convert("RGB"))) == [result]
    assert [entry["class"] for entry in result] == ["dim", "bright"]


def test_a_training_is_tracked_with_the_address_of_its_page(on_server: Registry, name: str) -> None:
    described: dict[str, Any] = {"experiment": name, "workspace": "s3://results/somewhere", "params": {"epochs": 2}}
    tracker = Started({"MLFLOW_TRACKING_URI": f"{on_server.uri}/"}, **described)
    tracker.log_epoch(1, {"mAP50": 0.5, "box_loss": float("nan")})
    resumed = Started({"MLFLOW_TRACKING_URI": on_server.uri}, tracker.record, **described)
    resumed.log_epoch(1, {"mAP50": 0.5})
    resumed.log_epoch(2, {"mAP50": 0.6})
    resumed.finish("succeeded")
    record = resumed.record
    assert record["mlflow"]["run_id"] == tracker.run_id
    page = record["mlflow"]["url"]
    assert page.startswith(f"{on_server.uri}/#/experiments/")
    assert page.endswith(f"/runs/{tracker.run_id}")
    from visionloop.training.tracking.connection import connect

    history = connect({"MLFLOW_TRACKING_URI": on_server.uri}).get_metric_history(tracker.run_id, "mAP50")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.6)]


def test_a_server_takes_no_model_from_a_folder(on_server: Registry, prepared: toy_detector.Prepared, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(1), name)
    with pytest.raises(InvalidConfig, match="use an s3:// workspace"):
        prepared.register(evaluation, name)
    assert on_server.champion(name) is None


def test_a_refused_source_is_told_in_a_sentence(on_server: Registry, name: str, tmp_path: Path) -> None:
    on_server.ensure_model(name, name)
    with pytest.raises(InvalidConfig, match="takes no model from there; use an s3:// workspace"):
        on_server.create_version(name, tmp_path.as_uri(), {}, "")


def test_a_server_that_is_out_is_transient(
    prepared: toy_detector.Prepared, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Transient, match="MLflow does not answer") as raised:
        prepared.evaluate(prepared.train(1), name)
    assert "secret" not in raised.value.sentence


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
