"""An export in a process of its own: a library that crashes there ends that process alone, and no key of a store is in it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from visionloop.components.evaluate.scenes import Scene
from visionloop.components.export.formats import Wanted
from visionloop.components.export.making import Described, make
from visionloop.components.export.result import ExportResult, Speed
from visionloop.core import structs, texts
from visionloop.core.errors import RETRYABLE, InvalidDataset, VisionloopError, is_panic
from visionloop.core.logs import LOGGER, configure
from visionloop.core.processes import die_with_parent, end_quickly, process_group
from visionloop.data.decoding import Undecodable, decode
from visionloop.training import catalog

#: Seconds between two looks at the process, and those without a further picture after which it is ended.
TICK_SECONDS = 0.5
SILENT_SECONDS = 1200.0

#: The process's program.
START = "import sys; from visionloop.components.export.child import main; sys.exit(main(sys.argv[1]))"

#: What it writes into its folder: a byte for each picture, and how it ended.
PROGRESS, ANSWER = "progress", "answer.json"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An export to make; ``pictures`` are files, ``scenes`` what is true of each, ``folder`` is where the export is written.

    ``calibration`` are the files that int8 is calibrated on.
    """

    trainer: str
    checkpoint: str
    format: str
    precision: str
    described: Described
    pictures: list[str]
    folder: str
    scenes: list[Scene] = []
    calibration: list[str] = []
    run: str = ""
    trace_id: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended: with an export, or with why there is none (``again``: another attempt may do better)."""

    files: dict[str, str] = {}
    result: ExportResult | None = None
    speed: Speed | None = None
    problem: str = ""
    again: bool = False


class Crashed(Exception):
    """There is no export. Its text says why, as the end of a sentence; ``again`` whether another attempt may do better."""

    def __init__(self, why: str, *, again: bool) -> None:
        """``why`` is for people."""
        super().__init__(why)
        self.again = again


def run(
    job: Job,
    folder: Path,
    environment: Mapping[str, str],
    advanced: Callable[[int, int], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, Path], ExportResult, Speed]:
    """Makes an export in a process of its own.

    Args:
        job: The export.
        folder: An empty folder for what both write.
        environment: The variables of the process.
        advanced: Called at each look with the pictures that are done and their total, as a sign of life.
        clock: Gives seconds.

    Raises:
        Crashed: If there is no export: the process's own error, a signal that ended it, or no progress for SILENT_SECONDS.
    """
    job_file, progress, answer = folder / "job.json", folder / PROGRESS, folder / ANSWER
    job_file.write_bytes(msgspec.json.encode(job))
    progress.touch()
    with process_group() as group:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(job_file)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,  # stdout is reserved for one line of the stage
            process_group=group,
        )
        try:
            code = _watched(process, progress, len(job.pictures) + len(job.calibration), advanced, clock)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
    if code < 0:
        why = "mostly for want of memory" if code == -signal.SIGKILL else "a crash of a library"
        raise Crashed(f"{signal.Signals(-code).name} ended it, {why}", again=True)
    if not answer.exists():
        raise Crashed(f"its process ended with code {code} and said nothing", again=False)
    ended = structs.decode(answer.read_bytes(), Answer)
    if ended.result is None or ended.speed is None:
        raise Crashed(ended.problem, again=ended.again)
    return {output: Path(file) for output, file in ended.files.items()}, ended.result, ended.speed


def _watched(
    process: subprocess.Popen[bytes],
    progress: Path,
    pictures: int,
    advanced: Callable[[int, int], None],
    clock: Callable[[], float],
) -> int:
    """Waits for the process and returns its exit code; arguments and errors are those of ``run``."""
    done, since = 0, clock()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(TICK_SECONDS)
        if (now_done := progress.stat().st_size) != done:
            done, since = now_done, clock()
        if clock() - since > SILENT_SECONDS:
            raise Crashed(f"it made no progress for {SILENT_SECONDS / 60:g} minutes", again=False)
        advanced(done, pictures)


def main(job_file: str) -> int:
    """Makes an export and writes how that ended; returns the process's exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage handles Ctrl-C
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may stop what writes from another group than its own
    die_with_parent(VisionloopError.exit_code)
    end_quickly()
    job = structs.decode(Path(job_file).read_bytes(), Job)
    configure(trace_id=job.trace_id, run=job.run, stage="export")
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = LOGGER.handlers
    answer = answered(job, Path(job_file).with_name(PROGRESS))
    Path(job_file).with_name(ANSWER).write_bytes(msgspec.json.encode(answer))
    return 0


def answered(job: Job, progress: Path) -> Answer:
    """Makes an export; whatever goes wrong is in the answer."""

    def advanced(_: int) -> None:
        with progress.open("ab") as file:
            file.write(b".")

    try:
        trainer, wanted = catalog.trainer(job.trainer), Wanted(job.format, job.precision)
        folder = Path(job.folder)
        pictures, calibration = _pictures(job.pictures), _told(_pictures(job.calibration), advanced)
        file = Path(job.checkpoint)
        made = make(trainer, file, wanted, job.described, pictures, folder, advanced, job.scenes, calibration)
    except VisionloopError as error:
        return Answer(problem=error.sentence.rstrip("."), again=error.exit_code in RETRYABLE)
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        LOGGER.error("an export ended with an error", exc_info=error)
        text = texts.sentence(str(error)).rstrip(".")
        return Answer(problem=f"{type(error).__name__}: {text}"[:500], again=isinstance(error, MemoryError))
    files, result, speed = made
    return Answer(files={output: str(path) for output, path in files.items()}, result=result, speed=speed)


def _told(pictures: Iterator[NDArray[Any]], advanced: Callable[[int], None]) -> Iterator[NDArray[Any]]:
    """The same; each is told as a sign of life."""
    for number, pixels in enumerate(pictures, 1):
        advanced(number)
        yield pixels


def _pictures(files: Sequence[str]) -> Iterator[NDArray[Any]]:
    for name in files:
        try:
            yield decode(Path(name).read_bytes())
        except Undecodable as error:
            raise InvalidDataset(f"{os.path.basename(name)}: {error}; run again.") from error
