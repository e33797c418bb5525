"""Tasks as forks of one process: their codes, signals and environment are those of processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from visionloop.pipelines.engines.laptop.task_server import AVAILABLE, Task, TaskServer

MANIFEST = Path(__file__).parents[2] / "manifests" / "kfp" / "visionloop-train.yaml"

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="tasks are forks on Linux only")


@pytest.fixture(scope="module")
def server() -> Iterator[TaskServer]:
    server = TaskServer()
    yield server
    server.close()


def task(body: str, folder: Path, **environment: str) -> Task:
    """A task of one component, whose body is given."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    source = f"import atexit, os, sys, time\nfrom pathlib import Path\n\ndef work():\n{lines}\n"
    executor_input = {"inputs": {}, "outputs": {"outputFile": str(folder / "output.json")}}
    arguments = ["--executor_input", json.dumps(executor_input), "--function_to_execute", "work"]
    return Task(source, arguments, "work", environment)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


@contextlib.contextmanager
def signalled(file: Path, number: signal.Signals) -> Iterator[None]:
    """Sends a signal to the process whose id a task writes into a file, shortly after it did."""

    def send() -> None:
        wait_for(file)
        time.sleep(0.2)
        os.kill(int(file.read_text()), number)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


def test_the_command_of_a_component_is_a_task() -> None:
    specification, _ = yaml.safe_load_all(MANIFEST.read_text())
    container = specification["deploymentSpec"]["executors"]["exec-snapshot"]["container"]
    command = [*container["command"], *container["args"]]
    result = Task.of(command, {"A": "b"})
    assert result is not None
    assert result.name == "snapshot"
    assert "def snapshot(" in result.source
    assert result.arguments == container["args"]
    assert result.environment == {"A": "b"}


@pytest.mark.parametrize("command", [["python", "-c", "pass"], ["sh", "-c", "exit 3"], ["sh", "-ec", *"abcdef"]])
def test_another_command_is_no_task(command: list[str]) -> None:
    assert Task.of(command, {}) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(65)", 65),
        ("raise ValueError('no')", 1),
        ("os.kill(os.getpid(), 9)", -9),
        ("os._exit(7)", 7),
    ],
)
def test_the_exit_code_is_the_tasks(body: str, code: int, server: TaskServer, tmp_path: Path) -> None:
    assert server.run(task(body, tmp_path)) == code


def test_each_task_is_a_process_with_an_environment_of_its_own(server: TaskServer, tmp_path: Path) -> None:
    body = "Path(os.environ['FILE']).write_text(f\"{os.getpid()} {os.environ.get('MARK')} {sys.stdin.read()!r}\")"
    first, second = tmp_path / "first", tmp_path / "second"
    assert server.run(task(body, tmp_path, FILE=str(first), MARK="one")) == 0
    assert server.run(task(body, tmp_path, FILE=str(second))) == 0
    (entry, mark, empty), (other, no_mark, _) = first.read_text().split(), second.read_text().split()
    assert entry != other
    assert (mark, no_mark, empty) == ("one", "None", "''")


def test_what_is_registered_for_the_interpreters_end_runs(server: TaskServer, tmp_path: Path) -> None:
    file = tmp_path / "end"
    body = "atexit.register(Path(os.environ['FILE']).write_text, 'ended')\nraise SystemExit(3)"
    assert server.run(task(body, tmp_path, FILE=str(file))) == 3
    assert file.read_text() == "ended"


def test_a_tasks_sources_do_not_stay(server: TaskServer, tmp_path: Path) -> None:
    file = tmp_path / "source"
    assert server.run(task("Path(os.environ['FILE']).write_text(__file__)", tmp_path, FILE=str(file))) == 0
    assert not Path(file.read_text()).exists()


def test_a_signal_to_a_task_ends_it_alone(server: TaskServer, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    sleeper = task("Path(os.environ['FILE']).write_text(str(os.getpid()))\ntime.sleep(60)", tmp_path, FILE=str(file))
    with signalled(file, signal.SIGTERM):
        assert server.run(sleeper) == -signal.SIGTERM
    assert server.run(task("pass", tmp_path)) == 0


def test_a_server_asked_to_end_lets_its_task_end_first(tmp_path: Path) -> None:
    server, file = TaskServer(), tmp_path / "pid"
    body = "Path(os.environ['FILE']).write_text(str(os.getppid()))\ntime.sleep(1)\nraise SystemExit(5)"
    with signalled(file, signal.SIGTERM):
        assert server.run(task(body, tmp_path, FILE=str(file))) == 5
    assert server.run(task("pass", tmp_path)) != 0
    server.close()


def test_a_server_that_is_killed_costs_the_task_and_no_more(tmp_path: Path) -> None:
    server, file = TaskServer(), tmp_path / "pid"
    body = "Path(os.environ['FILE']).write_text(str(os.getppid()))\ntime.sleep(1)"
    with signalled(file, signal.SIGKILL):
        assert server.run(task(body, tmp_path, FILE=str(file))) == 70
    server.close()


def test_the_registrys_client_is_imported_with_its_telemetry_off(tmp_path: Path) -> None:
    """While a task computes; and one that can't be imported here is not the server's problem."""
    (tmp_path / "mlflow.py").write_text(
        "import os\nfrom pathlib import Path\n"
        f"Path({str(tmp_path / 'seen')!r}).write_text(os.environ.get('MLFLOW_DISABLE_TELEMETRY', 'on'))\n"
        "raise ImportError('no mlflow here')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        server = TaskServer()
    assert server.run(task("time.sleep(5)", tmp_path)) == 0
    assert wait_for(tmp_path / "seen") == "true"
    assert server.run(task("raise SystemExit(4)", tmp_path)) == 4
    server.close()
