"""A receiver of events and a tracker that are down for the middle third of a training: what is missing, what is told, what is counted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_receiver import receiving
from event_schemas import check
from faulty_proxy import OUT, failing
from laptop import wait_for
from published_training import Tell, Training, epochs

from visionloop.core import progress
from visionloop.core.receipts import Receipt
from visionloop.training.tracking.connection import connect

EPOCHS, MIDDLE = 9, range(4, 7)
SETTING = f"epochs={EPOCHS}"


@pytest.fixture
def undisturbed(training: Training) -> Receipt:
    """What the training comes to that tells nobody and is not tracked."""
    alone = Training(training.workspace.child("alone"), training.uris)
    return alone.receipt(alone.train(SETTING))


def check_equal(receipt: Receipt, undisturbed: Receipt) -> None:
    """Whether two trainings are one to the byte."""
    assert (receipt.key, receipt.digest) == (undisturbed.key, undisturbed.digest)
    hashes = [{name: output.sha256 for name, output in entry.outputs.items()} for entry in (receipt, undisturbed)]
    assert hashes[0] == hashes[1]
    assert (receipt.scalars, receipt.metrics) == (undisturbed.scalars, undisturbed.metrics)


class Middle:
    """Says of an event's data whether it is of the middle third; lines that name no epoch are of the one before them."""

    def __init__(self) -> None:
        self._epoch = 0

    def __call__(self, data: dict[str, Any]) -> bool:
        """Whether it is."""
        about = [line["metadata"] or {} for line in data.get("logs", ())]
        numbers = [fields["epoch"] for fields in (data, *about) if "epoch" in fields]
        self._epoch = numbers[-1] if numbers else self._epoch if "logs" in data else 0
        return self._epoch in MIDDLE


def test_a_receiver_that_is_down_for_the_middle_third_misses_that_alone(
    training: Training, send_to: Tell, undisturbed: Receipt, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiving(down=Middle()) as server:
        send_to(server)
        receipt = training.receipt(training.train(SETTING))
        story, taken, refused = server.story, list(server.taken), server.answers.refused
    check_equal(receipt, undisturbed)
    for posted in taken:
        check(posted)
    assert [posted.id for posted in story] == [story[0].id, *epochs(1, 2, 3, 7, 8, 9), "night.train.completed"]
    # Each was tried three times, then dropped and counted.
    tries = Counter(posted.id for posted in refused)
    assert set(epochs(*MIDDLE)) <= set(tries)
    assert set(tries.values()) == {3}
    assert training.record().state("train").events == {"sent": len(taken), "dropped": len(tries)}
    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (warning,) = [line for line in lines if "does not take events" in line]
    assert warning.startswith("the receiver of VISIONLOOP_EVENTS_URL does not take events (")
    (end,) = [line for line in lines if line.startswith("events to VISIONLOOP_EVENTS_URL: ")]
    assert end.startswith(f"events to VISIONLOOP_EVENTS_URL: {len(taken)} sent, {len(tries)} dropped (")


@pytest.fixture
def mlflow(registry_template: Path, tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server of the test's own."""
    database = tmp_path / "mlflow.db"
    database.write_bytes((registry_template / "mlflow.db").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", tmp_path / "mlflow.log"
    words = [
        "--backend-store-uri",
        f"sqlite:///{database}",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=output,
            stderr=output,
            cwd=tmp_path,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for(answers)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.matrix
def test_what_a_tracker_misses_that_is_down_for_the_middle_third_comes_when_it_is_back(
    training: Training,
    mlflow: str,
    undisturbed: Receipt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gate = tmp_path / "gate"

    def fault(_: int) -> str | None:
        """503 while the last durable epoch is of the middle third, in which the training waits until that was noticed."""
        keys, _folders = training.workspace.children("train")
        recorded = progress.read(training.workspace.child(f"train/{keys[0]}")) if keys else None
        if recorded is None or recorded.epoch not in MIDDLE:
            return None
        gate.touch()
        return OUT

    with failing(mlflow, fault) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        receipt = training.receipt(training.train(SETTING, f"hold_after={MIDDLE.start}", f"hold_until={gate}"))
    check_equal(receipt, undisturbed)
    assert proxy.failed
    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (failure,) = [line for line in lines if line.startswith("tracking failed: ")]
    assert "503" in failure
    client = connect({"MLFLOW_TRACKING_URI": mlflow})
    (experiment,) = [entry for entry in client.search_experiments() if entry.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    history = json.loads(training.workspace.read(f"train/{receipt.key}/{receipt.outputs['history'].path}"))["epochs"]
    told = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/mAP50-95")]
    assert sorted(told) == [(entry["epoch"], entry["val_metrics"]["mAP50-95"]) for entry in history]
