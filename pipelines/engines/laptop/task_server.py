"""Runs the tasks of a pipeline as forks of one process, which has imported what they need.

A new interpreter spends a second or two on imports for each task, and some seconds more where the registry's client is
needed; a fork spends none. Linux only: on macOS a fork can't safely go on using the system's libraries.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import msgspec

from visionloop.core import structs
from visionloop.core.processes import end_quickly
from visionloop.training.tracking.connection import prepare_import, quiet_import

#: Whether tasks can be forks on this system.
AVAILABLE = sys.platform == "linux"

#: What every task imports.
IMPORTS = (
    "boto3",
    "kfp.dsl.executor_main",
    "obstore.store",
    "pyarrow.parquet",
    "visionloop.components.kubeflow",
    "visionloop.data.images",
)

#: What the tasks after one that computes import too, which takes seconds; where everything is reused nobody needs it.
MORE_IMPORTS = ("mlflow", "mlflow.pyfunc")

#: A task that takes longer than this computes; the server imports MORE_IMPORTS meanwhile.
COMPUTING_SECONDS = 3.0

#: The signals that ask a task to end; the server itself ends after the task.
_ENDING = (signal.SIGINT, signal.SIGTERM)

_START = "import sys; from visionloop.pipelines.engines.laptop.task_server import serve; serve(int(sys.argv[1]))"

#: The exit code of a task whose server is gone.
_LOST = 70


class Task(msgspec.Struct, frozen=True):
    """A task: its component's source, the arguments of KFP's executor, and the component's name."""

    source: str
    arguments: list[str]
    name: str
    environment: dict[str, str]

    @classmethod
    def of(cls, command: Sequence[str], environment: Mapping[str, str]) -> Task | None:
        """The task that a lightweight component's command runs; None for a command of another form.

        KFP 2's form: ``sh -ec SCRIPT SOURCE --executor_input JSON --function_to_execute NAME``, where SCRIPT writes SOURCE to
        a file and hands it and the arguments to ``kfp.dsl.executor_main``.
        """
        if len(command) != 8 or command[0] != "sh" or "kfp.dsl.executor_main" not in command[2]:
            return None
        return cls(command[3], list(command[4:]), command[7], dict(environment))


class TaskServer:
    """The server process; it ends when this process closes its input, or is gone."""

    def __init__(self) -> None:
        """Starts it; its imports go on while this process does something else."""
        read, tasks = os.pipe()
        codes, written = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(written)],
                stdin=read,
                pass_fds=(written,),
                env={**os.environ, "_KFP_RUNTIME": "true"},
            )
        finally:
            os.close(read)
            os.close(written)
        self._tasks, self._codes = os.fdopen(tasks, "wb"), os.fdopen(codes, "rb")

    def run(self, task: Task) -> int:
        """Runs a task to its end; returns its exit code, negative for a signal as ``subprocess`` has it."""
        with contextlib.suppress(BrokenPipeError):
            self._tasks.write(msgspec.json.encode(task) + b"\n")
            self._tasks.flush()
        return int(self._codes.readline() or _LOST)

    def close(self) -> None:
        """Ends the server."""
        with contextlib.suppress(BrokenPipeError):
            self._tasks.close()
        self._process.wait()
        self._codes.close()


def serve(codes: int) -> None:
    """The server: reads tasks as lines of stdin, writes each one's exit code as a line to the descriptor ``codes``."""
    end_quickly()
    server = _Server()
    for name in IMPORTS:
        importlib.import_module(name)
    with os.fdopen(codes, "w") as output:
        for line in sys.stdin.buffer:
            task = structs.decode(line, Task)
            code = server.fork(task, output)
            print(code, file=output, flush=True)
            if server.ending:
                return


class _Server:
    """The forking process; a signal that comes while a task runs is the task's, and ends the server after it."""

    def __init__(self) -> None:
        self.ending, self._task = False, False
        for number in _ENDING:
            signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ending = True
        if not self._task:
            raise SystemExit(128 + number)

    def fork(self, task: Task, output: IO[str]) -> int:
        """Runs a task in a fork and waits for its end."""
        self._task = True
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        # What is imported already is never collected: the fork need not walk through it when it ends.
        gc.freeze()
        process = os.fork()
        if process == 0:
            # The server's end of both pipes stays with the server, or its end could not be noticed.
            output.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            _become(task)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        if not _ends_within(process, COMPUTING_SECONDS):
            _import_more()
        _, status = os.waitpid(process, 0)
        self._task = False
        return os.waitstatus_to_exitcode(status)


def _import_more() -> None:
    """Imports MORE_IMPORTS as the stages do; what can't be imported here is left to the stage that needs it."""
    prepare_import()
    with quiet_import(), contextlib.suppress(Exception):
        for name in MORE_IMPORTS:
            importlib.import_module(name)


def _ends_within(process: int, seconds: float) -> bool:
    """Waits for a child to end; True at once where the kernel can't wait for one (Linux before 5.3, gVisor)."""
    try:
        descriptor = os.pidfd_open(process)
    except OSError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def _become(task: Task) -> None:
    """In the fork: becomes the task. Ends by SystemExit, so that what is registered for an interpreter's end runs."""
    from kfp.dsl.executor_main import executor_main

    os.environ.update(task.environment)
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, "ephemeral_component.py")
        module.write_text(task.source, encoding="utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(module), *task.arguments]
        executor_main()
    raise SystemExit(0)
