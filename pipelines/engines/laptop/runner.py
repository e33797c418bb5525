"""The runner: a child process that runs one pipeline through ``kfp.local``.

kfp.local patches print, swaps log handlers and loses exit codes, so it gets a process of its own whose output is a log.
Each stage is a process or a container of this machine.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from visionloop.core import structs
from visionloop.core.limits import RUNNER_VARIABLE
from visionloop.core.processes import die_with_parent, end_quickly
from visionloop.pipelines.engines.laptop import task_server

#: What a stage may be on this machine; the first is the default.
RUNNERS = ("subprocess", "docker")
SUBPROCESS, DOCKER = RUNNERS


#: Runs a task's command with further variables, and returns its exit code.
RunTask = Callable[[list[str], Mapping[str, str] | None], int]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner runs.

    Attributes:
        pipeline: ``module:function`` that makes a target's pipeline.
        arguments: The pipeline's arguments.
        root: KFP's own folder.
        runner: One of RUNNERS.
    """

    pipeline: str
    arguments: dict[str, Any]
    root: str
    runner: str = SUBPROCESS


def main(job_file: str) -> int:
    """Runs the pipeline; returns 1 if a task failed: which one, and why, is in the run's record."""
    # Its stages watch this process in turn.
    die_with_parent(1)
    end_quickly()
    os.environ[RUNNER_VARIABLE] = str(os.getpid())
    job = structs.decode(Path(job_file).read_bytes(), Job)
    with _tasks(job) as run_task:
        return _run(job, run_task)


def _run(job: Job, run_task: RunTask) -> int:
    from kfp import local

    from visionloop.pipelines.parameters import settings_in
    from visionloop.pipelines.targets import laptop

    target = laptop(str(settings_in(job.arguments).get("trainer") or ""))
    local.init(
        runner=_runner(job, run_task),
        pipeline_root=job.root,
        # Its own default is a temporary folder that nobody removes.
        workspace_root=str(_made(Path(job.root, "workspace"))),
        raise_on_error=True,
    )
    module, _, name = job.pipeline.partition(":")
    pipeline = getattr(importlib.import_module(module), name)(target)
    try:
        pipeline(**job.arguments)
    except RuntimeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this process's output is a log
        return 1
    return 0


def _runner(job: Job, run_task: RunTask) -> Any:
    from kfp import local

    if job.runner == SUBPROCESS:
        from kfp.local import subprocess_task_handler

        # kfp.local's own reads a task's output as UTF-8, and ends the run at any other byte; here a task writes into the log itself.
        subprocess_task_handler.run_local_subprocess = run_task
        return local.SubprocessRunner(use_venv=False)
    from visionloop.pipelines.engines.laptop import containers

    with containers.engine() as client:
        info = client.info()
    return local.DockerRunner(**containers.run_arguments(job.root, job.arguments, os.environ, info))


@contextlib.contextmanager
def _tasks(job: Job) -> Iterator[RunTask]:
    """What runs a task as a process of this machine: a fork of a server where it can be, which imports while KFP is imported here."""
    if job.runner != SUBPROCESS or not task_server.AVAILABLE:
        yield _run_interpreter
        return
    with contextlib.closing(task_server.TaskServer()) as server:

        def run_task(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
            task = task_server.Task.of(full_command, env_vars or {})
            return server.run(task) if task else _run_interpreter(full_command, env_vars)

        yield run_task


def _run_interpreter(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
    return subprocess.run(full_command, env={**os.environ, **(env_vars or {})}, check=False).returncode


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
