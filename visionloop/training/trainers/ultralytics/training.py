"""Trains a job, resumed or not, and makes its result from the last epoch's checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visionloop.training.devices import device_count, device_name
from visionloop.training.pytorch import distributed
from visionloop.training.pytorch.checkpoint import is_finished, read
from visionloop.training.pytorch.device import resolve_device
from visionloop.training.pytorch.history import plot_history
from visionloop.training.trainers import BatchTrial, Listener, TrainingJob, TrainingResult
from visionloop.training.trainers.ultralytics import checkpoint, session
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.failures import translated


def train(job: TrainingJob, listener: Listener) -> TrainingResult:
    """Trains a job, or only finalises it if its checkpoint is from a finished training.

    The result is always made from a checkpoint that was read back from its file, so a training that was interrupted ends
    with the same bytes as one that was not.

    Raises:
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost, or the disk full.
        Transient: If a process that loads images died.
        InvalidConfig: If training diverged; the last finite checkpoint was reported.
        InvalidDataset: If the dataset can't be trained on.
    """
    library()
    with translated(job.batch, int(job.config["imgsz"])):
        state = read(job.checkpoint) if job.checkpoint else None
        last = job.checkpoint
        if last is None or state is None or not is_finished(state, int(job.config["epochs"])):
            world = device_count(job.config.get("device"))
            if world > 1:
                resolve_device(job.config["device"])  # what is not there is refused before anything is started
                last = distributed.run(rank, job, listener, world)
            else:
                last = session.run(job, listener, state)
        return finalise(last, job)


def try_batch(job: TrainingJob, listener: Listener) -> BatchTrial:
    """Trains on the first batch of a job again and again, on its first device; see `visionloop.training.trainers.TriesABatch`.

    Raises:
        VisionloopError: As `train`.
    """
    library()
    with translated(job.batch, int(job.config["imgsz"])):
        names = device_name(job.config.get("device")).split(",")
        share = replace(job, batch=max(job.batch // len(names), 1), config={**job.config, "device": names[0]})
        loop = session.make_loop(share, listener)
        try:
            return loop.try_batch()
        finally:
            loop.close_loaders()


def rank(job: TrainingJob, listener: Listener, seat: distributed.Seat) -> Path:
    """Trains as one of the ranks of a training on several devices; see `train`."""
    library()
    with translated(job.batch, int(job.config["imgsz"])):
        return session.run(job, listener, read(job.checkpoint) if job.checkpoint else None, seat)


def finalise(path: Path, job: TrainingJob) -> TrainingResult:
    """Writes the files of a training's result from its last epoch's checkpoint, and returns the result."""
    state = read(path)
    best, last = job.work / "best.pt", job.work / "last.pt"
    checkpoint.write_model(state, state["best"]["model"], best)
    checkpoint.write_model(state, checkpoint.half(state["ema"]), last)
    return TrainingResult(
        best=best,
        last=last,
        best_epoch=state["best"]["epoch"],
        epochs=state["epoch"],
        history=state["history"],
        plots=[plot_history(state["history"], job.work / "results.png")],
        batch=state["batch"],
    )
