"""What tasks and their children print decides nothing: it goes into the run's log as it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from visionloop.pipelines.engines.laptop.run import LocalRun, run_pipeline


@dataclass(frozen=True)
class Ran:
    """A run that ended: its log, and the process that a task of it left behind."""

    log: bytes
    sleeper: psutil.Process | None


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """tests/local/loud_pipeline.py, run as ``visionloop run train`` runs its pipeline."""
    folder = tmp_path_factory.mktemp("loud")
    arguments = {"sleeper": str(folder / "sleeper")}
    local = LocalRun("loud_pipeline:pipeline", arguments, ("loud",), f"{folder}/work", "loud", None, folder / "logs")
    sleeper = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        try:
            run_pipeline(local)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                sleeper = psutil.Process(int((folder / "sleeper").read_text()))
    yield Ran((folder / "logs" / "loud.log").read_bytes(), sleeper)
    if sleeper is not None:
        sleeper.kill()


def test_bytes_that_are_no_text_end_no_run(ran: Ran) -> None:
    """kfp.local reads a task's output as strict UTF-8, and one other byte of any library would end the runner."""
    assert b"a library's caf\xe9 \xff\n" in ran.log
    assert b"and on stderr \xff\n" in ran.log
    assert b"the task after it ran\n" in ran.log


def test_a_process_that_holds_stdout_open_holds_up_no_task(ran: Ran) -> None:
    """kfp.local waits until everybody has closed a task's output."""
    assert b"the task after it ran\n" in ran.log
    assert ran.sleeper is not None
    assert ran.sleeper.status() != psutil.STATUS_ZOMBIE
