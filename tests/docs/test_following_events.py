"""The receiver of docs/events.md, and the page's commands, as a person runs them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from documents import ROOT
from test_comparing import write

from visionloop.core.runs import Failure, RunRecord
from visionloop.core.storage import open_prefix
from visionloop.training.events import Checkpoint, LogLine, Progress, Publisher, Started, endings, receivers

PAGE = (ROOT / "docs/events.md").read_text(encoding="utf-8")
SECRET = "0123456789abcdef0123456789abcdef"
ABOUT = {"job_id": "night", "trace_id": "trace"}

COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """An answer's status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/cloudevents+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def receiver() -> Iterator[str]:
    """The page's receiver, started by the page's command; its address."""
    (command,) = [line for line in COMMANDS if "uvicorn" in line]
    port = free_port()
    words = command.removesuffix(" &").replace("8700", str(port)).split()
    environment = {**os.environ, "VISIONLOOP_EVENTS_SECRET": SECRET}
    with subprocess.Popen(
        [sys.executable, *words[1:]], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "Uvicorn running" in line:
                    break
            else:
                raise AssertionError("it did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_the_receiver_shows_how_a_run_stands_and_drops_what_it_has(receiver: str, tmp_path: Path) -> None:
    variables = {"VISIONLOOP_EVENTS_URL": f"{receiver}/events", "VISIONLOOP_EVENTS_SECRET": SECRET}
    record = RunRecord(open_prefix(str(tmp_path), "results"), "night")

    def tell() -> dict[str, int]:
        publisher = Publisher(receivers(variables, "night"), "night", "trace", "a1b2")
        publisher.tell(
            Started(
                **ABOUT,
                pid=1,
                hostname="pod",
                gpu_info=None,
                operation_type="training",
                total_epochs=4,
                resumed_after_epoch=0,
            )
        )
        publisher.log(LogLine(level="INFO", message="one line", timestamp="2026-01-01T00:00:00Z", source="sdk"))
        checkpoint = Checkpoint(
            **ABOUT,
            epoch=1,
            step=0,
            checkpoint_path="s3://results/epoch_1.pt",
            checkpoint_type="best",
            is_best=True,
            metrics={},
            file_size_bytes=1,
        )
        progress = Progress(
            **ABOUT,
            status="running",
            epoch=1,
            current_epoch=1,
            total_epochs=4,
            phase="val",
            eta_seconds=9,
            metrics={"mAP50": 0.5},
        )
        publisher.epoch([checkpoint, progress], last=False)
        return publisher.close()

    assert ask(f"{receiver}/runs/night")[0] == 404
    for _ in range(2):
        assert tell() == {"sent": 4, "dropped": 0}
    shown = {
        "status": "running",
        "total_epochs": 4,
        "host": "pod",
        "epoch": 1,
        "metrics": {"mAP50": 0.5},
        "eta_seconds": 9,
        "checkpoint": "s3://results/epoch_1.pt",
        "log": ["one line"],
    }
    assert ask(f"{receiver}/runs/night") == (200, shown)
    failure = Failure(
        stage="train",
        exit_code=76,
        error_code="OOM",
        error_message="The GPU's memory is used up.",
        error_type="RESOURCE_ERROR",
        last_successful_epoch=1,
        attempt=1,
        trace_id="trace",
        written_at=0.0,
    )
    publisher = Publisher(receivers(variables, "night"), "night", "trace")
    publisher.tell(endings.ended(record, "trace", failure))
    assert publisher.close() == {"sent": 1, "dropped": 0}
    ended = {"status": "failed", "error": "OOM: The GPU's memory is used up."}
    assert ask(f"{receiver}/runs/night") == (200, shown | ended)


def test_the_receiver_shows_an_attempt_after_an_end_and_a_training_that_begins_anew(receiver: str) -> None:
    """Each tells under the ids of the one before."""
    token = jwt.encode(
        {"sub": "night", "scope": "training-callback", "exp": int(time.time()) + 60}, SECRET, algorithm="HS256"
    )

    def tell(attempt: str, resumed: int, *epochs: int, end: str) -> dict[str, Any]:
        began = {"resumed_after_epoch": resumed, "total_epochs": 2, "hostname": attempt}
        told: list[tuple[str, str, dict[str, Any]]] = [("started", f".{attempt}.1", began)]
        for epoch in epochs:
            told.append(("progress", f".{epoch}.val", {"epoch": epoch, "metrics": {attempt: 1}, "eta_seconds": 0}))
        ends: dict[str, dict[str, Any]] = {
            "failed": {"error_code": "OOM", "error_message": attempt},
            "completed": {"reused": False, "best_checkpoint_path": attempt},
        }
        told.append((end, "", ends[end]))
        for kind, place, data in told:
            event = {"id": f"night.train.{kind}{place}", "type": f"visionloop.training.{kind}", "data": ABOUT | data}
            assert ask(f"{receiver}/events", event, token)[0] == 200
        return dict(ask(f"{receiver}/runs/night")[1])

    assert tell("first", 0, 1, end="failed")["error"] == "OOM: first"
    again = tell("second", 1, 1, end="failed")
    assert (again["status"], again["error"], again["host"]) == ("failed", "OOM: second", "second")
    assert again["metrics"] == {"first": 1}  # of the epoch that it went on from, which it told again
    assert tell("third", 1, 2, end="completed")["metrics"] == {"third": 1}
    anew = tell("fourth", 0, 1, 2, end="completed")
    assert (anew["status"], anew["best"], anew["metrics"]) == ("completed", "fourth", {"fourth": 1})


def test_the_receiver_refuses_tokens_of_others(receiver: str) -> None:
    event = {"id": "1", "type": "visionloop.training.log", "data": {**ABOUT, "logs": []}}
    claims = {"sub": "night", "job_id": "night", "scope": "training-callback", "exp": int(time.time()) + 60}

    def answer(secret: str = SECRET, **other: Any) -> int:
        return ask(f"{receiver}/events", event, jwt.encode({**claims, **other}, secret, algorithm="HS256"))[0]

    assert ask(f"{receiver}/events", event)[0] == 401
    assert answer(secret=SECRET[::-1]) == 401
    assert answer(sub="another") == 401
    assert answer(scope="else") == 401
    assert answer(exp=int(time.time()) - 60) == 401
    assert answer() == 200


def test_the_receiver_is_about_sixty_lines() -> None:
    assert len((ROOT / "docs/receiver.py").read_text(encoding="utf-8").splitlines()) <= 75


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    write(tmp_path / "bottles")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    short = [
        line.replace("epochs=20", "epochs=1").replace("8700", str(port)) for port in [free_port()] for line in COMMANDS
    ]
    assert [line.split()[0] for line in short] == ["export", "export", "python", "visionloop", "curl"]
    start = short.index(next(line for line in short if line.startswith("visionloop")))
    settings = "--set imgsz=64 --set workers=0 --set model=yolo11n.yaml --set trainer=ultralytics"
    short[start] += f" --gate '{{\"floor\": 0}}' {settings}"
    script = "\n".join(["trap 'kill %1' EXIT", *short])
    binaries = Path(sys.executable).parent
    environment = os.environ | {"VISIONLOOP_HOME": str(tmp_path / "home"), "PATH": f"{binaries}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", f"set -m\n{script}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout.splitlines()[-1])
    assert (shown["status"], shown["reused"], shown["epoch"], shown["total_epochs"]) == ("completed", False, 1, 1)
    assert shown["log"]
