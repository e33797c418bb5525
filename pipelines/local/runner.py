"""The runner: a child process that runs one pipeline through ``kfp.local``.

kfp.local patches print, swaps log handlers and loses exit codes, so it gets a process of its own whose output is a log.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.limits import RUNNER_VARIABLE

_PR_SET_PDEATHSIG = 1


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner is asked to run: ``module:function`` that makes a target's pipeline, its arguments, KFP's own folder."""

    pipeline: str
    arguments: dict[str, Any]
    root: str


def main(job_file: str) -> int:
    """Runs the pipeline; returns 1 if a task failed: which one, and why, stands in the run's record."""
    _die_with_parent()
    os.environ[RUNNER_VARIABLE] = str(os.getpid())
    job = msgspec.json.decode(Path(job_file).read_bytes(), type=Job)
    from kfp import local

    from visionloop.pipelines.targets import laptop

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=job.root,
        raise_on_error=True,
    )
    module, _, name = job.pipeline.partition(":")
    pipeline = getattr(importlib.import_module(module), name)(laptop())
    try:
        pipeline(**job.arguments)
    except RuntimeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this process's output is a log
        return 1
    return 0


def _die_with_parent() -> None:
    """Ends this process when the command that started it is killed; its stages watch this process in turn."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(1)
