"""A training on several devices of this machine: a process (rank) for each, started, listened to and ended here.

Rank 0 reports; this process passes its reports on, and holds no model. When a rank ends without a result, all are ended, and its
error is raised.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Protocol

import psutil

from visionloop.core import texts
from visionloop.core.errors import VisionloopError
from visionloop.core.folders import temporary_folder
from visionloop.core.logs import LOGGER
from visionloop.core.processes import die_with_parent
from visionloop.training.devices import meeting_variables, peak_gpu_bytes
from visionloop.training.pytorch.failures import picklable
from visionloop.training.supervision.supervisor import ended
from visionloop.training.trainers import EpochReport, Listener, TrainingJob

#: A rank's program, with its end of the pipe as argument.
START = "import sys; from visionloop.training.pytorch.distributed import main; main(int(sys.argv[1]))"

#: Seconds between two checks that the ranks are alive.
CHECK_SECONDS = 0.5

#: Seconds to wait for the error of the rank that failed first, once another rank has reported that a rank has gone.
CAUSE_SECONDS = 10.0

#: Seconds that the ranks have to end once the training is done.
END_SECONDS = 30.0

#: What errors of a process say when another one of its group has gone.
_PEER_GONE = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "gloo/", "ncclremoteerror")


@dataclass(frozen=True)
class Seat:
    """What a rank gets: its number from 0, how many there are, and the file by which they find each other."""

    rank: int
    world: int
    meeting: Path


class Program(Protocol):
    """What each rank runs; it is pickled, so it is a function of a module, or a partial of one."""

    def __call__(self, job: TrainingJob, listener: Listener, seat: Seat) -> Path:
        """Trains and returns the last epoch's checkpoint, which rank 0 wrote.

        Only rank 0's listener reports. Each other rank has a work folder of its own within the job's.
        """


@dataclass(frozen=True)
class Failure:
    """How a rank ended: its error, the traceback as text, and whether the error only says that another rank has gone."""

    error: Exception
    traceback: str
    peer: bool = False


@dataclass(frozen=True)
class _Rank:
    seat: Seat
    process: subprocess.Popen[bytes]
    end: Connection


def run(program: Program, job: TrainingJob, listener: Listener, world: int) -> Path:
    """Runs a training's program in ``world`` processes to its end and returns the last epoch's checkpoint.

    Args:
        program: What each process runs.
        job: The training's inputs.
        listener: Hears what rank 0 reports, in this process, and may stop the training after an epoch.
        world: How many processes there are.

    Raises:
        VisionloopError: The first error of a rank; Killed (137) and the like if one was ended by a signal.
    """
    with temporary_folder("ranks") as folder, contextlib.ExitStack() as stack:
        seats = [Seat(number, world, folder / "meeting") for number in range(world)]
        ranks = [stack.enter_context(_started(program, job, seat)) for seat in seats]
        checkpoint = _heard(ranks, listener)
        for rank in ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                rank.process.wait(END_SECONDS)
    return checkpoint


@contextlib.contextmanager
def _started(program: Program, job: TrainingJob, seat: Seat) -> Iterator[_Rank]:
    """Starts a rank; it and the processes that it started are killed with the context."""
    ours, theirs = Pipe()
    variables = {"RANK": seat.rank, "LOCAL_RANK": seat.rank, "WORLD_SIZE": seat.world}
    environment = os.environ | {name: str(value) for name, value in variables.items()} | meeting_variables(os.environ)
    command = [sys.executable, "-c", START, str(theirs.fileno())]
    process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2)
    theirs.close()
    try:
        with contextlib.suppress(OSError):  # a rank that is gone already is noticed below, where all are listened to
            ours.send_bytes(pickle.dumps((program, job, seat, LOGGER.getEffectiveLevel())))
        yield _Rank(seat, process, ours)
    finally:
        ours.close()
        _kill(process)


def _heard(ranks: list[_Rank], listener: Listener) -> Path:
    """Passes rank 0's reports on until all ranks are done; returns the checkpoint. Raises the error that ended a rank."""
    by_end = {rank.end: rank for rank in ranks}
    checkpoints: dict[int, Path] = {}
    blamed: tuple[float, Failure] | None = None
    while by_end:
        ready = [end for end in wait(list(by_end), CHECK_SECONDS) if isinstance(end, Connection)]
        # Loaders of a killed rank keep its end of the pipe open, so the processes are checked as well.
        gone = [end for end, rank in by_end.items() if end not in ready and rank.process.poll() is not None]
        for end in [*ready, *gone]:
            rank = by_end[end]
            received = _received(rank, listener)
            if received is None:
                continue
            del by_end[end]
            if isinstance(received, Path):
                checkpoints[rank.seat.rank] = received
            elif not received.peer:
                _raise(received)
            elif blamed is None:
                blamed = time.monotonic(), received
        if blamed and (not by_end or time.monotonic() - blamed[0] > CAUSE_SECONDS):
            _raise(blamed[1])
    return checkpoints[0]


def _received(rank: _Rank, listener: Listener) -> Path | Failure | None:
    """Takes one message of a rank; returns the checkpoint or the failure if it is the last."""
    try:
        if not rank.end.poll():
            raise EOFError
        kind, value = rank.end.recv()
    except (EOFError, OSError):
        error = ended(rank.process.wait())
        return Failure(error, str(error))
    match kind:
        case "batch":
            listener.batch(*value)
        case "images":
            listener.images(*value)
        case "epoch":
            proceed = listener.epoch(value)
            with contextlib.suppress(OSError):
                rank.end.send(proceed)
        case "log":
            LOGGER.handle(value)
        case _:
            last: Path | Failure = value
            return last
    return None


def _raise(failure: Failure) -> None:
    if isinstance(failure.error, VisionloopError):
        raise failure.error
    raise failure.error from RuntimeError(failure.traceback)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a rank that is still alive, and the processes that it started."""
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in own:
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()
    process.wait()


class _Speaker:
    """A rank's end of the pipe: messages of its threads do not interleave, and processes that it started say nothing."""

    def __init__(self, end: Connection) -> None:
        self._end, self._lock, self._pid = end, threading.Lock(), os.getpid()

    def say(self, kind: str, value: object) -> None:
        """Sends a message; a process that the rank started sends none."""
        if os.getpid() == self._pid:
            with self._lock:
                self._end.send((kind, value))

    def ask(self, kind: str, value: object) -> Any:
        """Sends a message and waits for the answer."""
        self.say(kind, value)
        return self._end.recv()


class _Reporting:
    """Rank 0's listener: it reports to the process that started the ranks."""

    def __init__(self, speaker: _Speaker) -> None:
        self._speaker = speaker

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Reports a finished batch."""
        self._speaker.say("batch", (epoch, batch, batches))

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Reports the images of a split."""
        self._speaker.say("images", (split, [os.fspath(path) for path in paths]))

    def epoch(self, report: EpochReport) -> bool:
        """Reports an epoch, with the memory that this rank's GPU held; returns whether to go on."""
        return bool(self._speaker.ask("epoch", replace(report, peak_gpu_bytes=peak_gpu_bytes())))


class _Silent:
    """The listener of all other ranks."""

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Is not reported."""

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Is not reported."""

    def epoch(self, report: EpochReport) -> bool:
        """Is not reported; rank 0 decides whether to go on."""
        return True


class _Forward(logging.Handler):
    """Hands log lines to the process that started the ranks."""

    def __init__(self, speaker: _Speaker) -> None:
        super().__init__()
        self._speaker = speaker

    def emit(self, record: logging.LogRecord) -> None:
        """Forwards one line, its text complete."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._speaker.say("log", record)


def main(descriptor: int) -> None:
    """A rank's process.

    Args:
        descriptor: Its end of the pipe, over which it receives the program, the job and its seat.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage handles Ctrl-C
    die_with_parent(VisionloopError.exit_code)
    end = Connection(descriptor)
    speaker = _Speaker(end)
    program, job, seat, level = pickle.loads(end.recv_bytes())  # noqa: S301 - the process that started this one sent it
    LOGGER.handlers[:] = [_Forward(speaker)]
    # What all ranks would log is logged once.
    LOGGER.setLevel(level if seat.rank == 0 else logging.ERROR)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = LOGGER.handlers if seat.rank == 0 else [logging.NullHandler()]
    try:
        if seat.rank:
            job = replace(job, work=job.work / f"rank_{seat.rank}")
            job.work.mkdir(exist_ok=True)
        checkpoint = program(job, _Reporting(speaker) if seat.rank == 0 else _Silent(), seat)
        _leave()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the ranks were started
        with contextlib.suppress(OSError):
            speaker.say("end", _failure(error))
        sys.exit(VisionloopError.exit_code)
    speaker.say("end", checkpoint)


def _leave() -> None:
    """Waits until all ranks are done, where they have joined each other."""
    if "torch" in sys.modules:
        from visionloop.training.pytorch.ranks import leave

        leave()


def _failure(error: Exception) -> Failure:
    return Failure(picklable(error), texts.traceback(error), _is_a_gone_peer(error))


def _is_a_gone_peer(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, only says that another process has gone, and not why."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _PEER_GONE):
            return True
        error = error.__cause__ or error.__context__
    return False
