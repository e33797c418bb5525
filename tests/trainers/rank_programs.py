"""What processes of several devices run in the tests of how they are started, heard and ended; it imports no library."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from visionloop.core.errors import InvalidDataset
from visionloop.core.processes import started
from visionloop.training.pytorch.distributed import Seat
from visionloop.training.trainers import EpochReport, Listener, TrainingJob

LOGGER = logging.getLogger("visionloop")


def variables(job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """Writes what a library is told of its rank."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    (job.dataset / f"{seat.rank}.txt").write_text(" ".join(os.environ[name] for name in names))
    LOGGER.warning("rank %d speaks", seat.rank)
    listener.images("val", [f"{seat.rank}.png"])
    return job.dataset / f"{seat.rank}.txt"


def until_stopped(job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """Reports epochs until it is told to stop."""
    for epoch in range(1, 100):
        checkpoint = job.dataset / f"{epoch}.pt"
        checkpoint.touch()
        listener.batch(epoch, 1, 1)
        if not listener.epoch(EpochReport(epoch, {}, {"mAP50": 0.5}, checkpoint, 1, 0.5)) or seat.rank:
            return checkpoint
    raise AssertionError("nobody asked to stop")


def one_ends(how: str, job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """Rank 1 ends as it is told; rank 0 has a child, and waits for ever or learns that a rank has gone."""
    if seat.rank == 0:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (job.dataset / "pids.part").write_text(f"{os.getpid()} {child.pid}")
        (job.dataset / "pids.part").rename(job.dataset / "pids")
        if how == "told":
            raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1")
        time.sleep(600)
    while not (job.dataset / "pids").exists():
        time.sleep(0.01)
    first = int((job.dataset / "pids").read_text().split()[0])
    while how == "told" and started(first) is not None:
        time.sleep(0.01)
    match how:
        case "killed" | "told":
            os.kill(os.getpid(), signal.SIGKILL)
        case "data":
            raise InvalidDataset("The picture 3.png is torn; replace it.")
        case "strange":
            raise Strange(open(os.devnull))  # noqa: SIM115
        case _:
            raise KeyError("unknown")
    return job.dataset


class Strange(Exception):
    """An error that can't be sent to another process."""


def main(work: str) -> None:
    """Starts two ranks that never end."""
    from visionloop.training.pytorch import distributed

    job = TrainingJob("detection", Path(work), (), {}, None, Path(work), None, 1)
    distributed.run(for_ever, job, Unheard(), 2)


def for_ever(job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """Says its process's id and waits."""
    (job.dataset / f"{seat.rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)
    return job.dataset


class Unheard:
    """A listener that nobody reports to."""

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Is not called."""

    def images(self, split: str, paths: object) -> None:
        """Is not called."""

    def epoch(self, report: EpochReport) -> bool:
        """Is not called."""
        return True
