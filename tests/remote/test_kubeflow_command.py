"""``visionloop run … --engine kfp`` in a process of its own: the pods' part is played by the real stages, here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow_server import KubeflowServer, task

from visionloop.core import catalog
from visionloop.core.errors import DatasetNotFound
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix

pytestmark = pytest.mark.slow

VISIONLOOP = str(Path(sys.executable).with_name("visionloop"))


@pytest.fixture
def server() -> Iterator[KubeflowServer]:
    running = KubeflowServer()
    yield running
    running.close()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(server: KubeflowServer, s3_workspace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the command on a dataset that is not there."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        arguments = ["--dataset", "s3://datasets/not-there", "--workspace", s3_workspace, "--model-name", "Digits"]
        command = [VISIONLOOP, "run", "train", "--engine", "kfp", "--host", server.host, *arguments, *words]
        environment = {**os.environ, "VISIONLOOP_HOME": str(tmp_path / "services"), "HOME": str(tmp_path)}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def until(probe: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Waits for something that the command does."""
    for _ in range(1200):
        if value := probe():
            return value
        if process.poll() is not None:
            raise AssertionError(f"the command has ended with {process.returncode}: {process.communicate()}")
        time.sleep(0.1)
    raise AssertionError("the command did not do it")


def test_it_ends_with_the_failed_stages_own_sentence_and_exit_code(
    server: KubeflowServer, start: Start, s3_workspace: str
) -> None:
    process = start("--trace-id", "trace-of-mine")
    run = until(lambda: next(iter(server.state.runs), None), process)
    record = RunRecord(open_prefix(s3_workspace, "results"), run)
    until(record.read, process)
    # What the pod does: KFP's run id is the record's name, the trace id comes from the record.
    printed = Invocation(s3_workspace, run=run, honour_failures=True)
    with pytest.raises(DatasetNotFound) as failed:
        run_stage(catalog.stage("snapshot"), {"dataset": "s3://datasets/not-there"}, printed)
    server.end(run, "FAILED", task("snapshot", "FAILED", "exit status 1"), task("cleanup", "SUCCEEDED"))
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 65
    assert stdout == ""
    assert stderr.splitlines()[-1] == failed.value.sentence
    assert f"{server.host}/#/runs/details/{run}" in stderr
    failure = record.failure("snapshot")
    assert failure is not None
    assert failure.trace_id == "trace-of-mine"


def test_it_submits_and_leaves(server: KubeflowServer, start: Start) -> None:
    stdout, stderr = (process := start("--detach")).communicate(timeout=120)
    assert process.returncode == 0, stderr
    printed = json.loads(stdout)
    (run,) = server.state.runs
    assert (printed["engine"], printed["run"]) == ("kfp", run)
    assert printed["page"] == f"{server.host}/#/runs/details/{run}"
    assert f"visionloop run follow {run} --engine kfp --host {server.host}" in stderr


def test_ctrl_c_leaves_the_run_alone(server: KubeflowServer, start: Start, s3_workspace: str) -> None:
    process = start()
    run = until(lambda: next(iter(server.state.runs), None), process)
    until(lambda: ("GET", f"/apis/v2beta1/runs/{run}") in server.state.asked, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"visionloop run follow {run} --engine kfp" in stderr.splitlines()[-1]
    assert not any(verb in path for _, path in server.state.asked for verb in (":terminate", ":archive"))
    assert server.state.runs[run].state == "PENDING"
