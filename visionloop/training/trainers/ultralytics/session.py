"""Runs one training: sets the library's arguments and starting point, and runs its loop to the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import Defect
from visionloop.core.logs import LOGGER
from visionloop.training.pytorch.device import resolve_device
from visionloop.training.pytorch.distributed import Seat
from visionloop.training.pytorch.workers import available_cpus, free_shared_memory, usable_workers
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.ultralytics.dataset import Description, data_argument
from visionloop.training.trainers.ultralytics.settings import settings
from visionloop.training.trainers.ultralytics.tasks import TASKS

if TYPE_CHECKING:
    from visionloop.training.trainers.ultralytics.loop import Loop


def run(job: TrainingJob, listener: Listener, state: dict[str, Any] | None, seat: Seat | None = None) -> Path:
    """Trains to the end and returns the last epoch's checkpoint.

    Args:
        job: The training's inputs.
        listener: Receives batches and epochs, and may stop the training after an epoch.
        state: The state to resume from (`checkpoint.read`), or None.
        seat: Which rank this process is, on several devices.

    Raises:
        InvalidConfig: If the training diverged, or the starting weights do not fit the task.
        InvalidDataset: If a split has no image.
    """
    loop = make_loop(job, listener, state, seat)
    try:
        loop.train()
    finally:
        loop.close_loaders()
    if seat and seat.rank:
        return job.work  # rank 0 returns the checkpoint
    if loop.checkpoint is None:
        raise Defect("The library's loop ended without an epoch.")
    return loop.checkpoint


def make_loop(
    job: TrainingJob, listener: Listener, state: dict[str, Any] | None = None, seat: Seat | None = None
) -> Loop:
    """The library's loop for a job, before it is set up; arguments and errors are those of `run`."""
    from visionloop.training.trainers.ultralytics.loop import Plan, loop_class

    device = resolve_device(job.config.get("device"))
    LOGGER.info("training on %s", device.words)
    arguments = library_arguments(job, device.name, seat.world if seat else 1)
    description = Description(job.task, job.classes, len(job.keypoints), job.flip)
    data = data_argument(job.dataset, description, ("train", "val"), job.work)
    arguments |= {"data": str(data), "model": starting_point(job)}
    return loop_class(job.task)(arguments, Plan(job, listener, state, seat))


def library_arguments(job: TrainingJob, device: str, world: int = 1) -> dict[str, Any]:
    """The library's arguments for a job on so many devices: every setting by its name, and the values that are fixed here."""
    config = dict(job.config)
    arguments: dict[str, Any] = {
        name: config.get(name, setting.default) for name, setting in settings(job.task).items()
    }
    if arguments.get("auto_augment") == "none":
        arguments["auto_augment"] = None
    # The configured batch decides how many images make a step; a smaller batch accumulates up to the same number.
    batch = int(config["batch"])
    effective = batch * max(round(arguments["nbs"] / batch), 1)
    arguments["weight_decay"] = arguments["weight_decay"] * effective / arguments["nbs"]
    arguments["nbs"] = effective
    workers, reason = usable_workers(
        int(config.get("workers", 0)),
        job.batch,
        int(config["imgsz"]),
        max(1, available_cpus() // world),
        free_shared_memory(),
    )
    if device == "cpu":
        workers = 0  # as in the library: the processor is the bottleneck, not the loading
    elif reason:
        LOGGER.warning(reason)
    return arguments | {
        "task": TASKS[job.task].name,
        "mode": "train",
        "epochs": int(config["epochs"]),
        # Each device has an equal share, an image at least.
        "batch": max(job.batch // world, 1) * world,
        "imgsz": int(config["imgsz"]),
        "lr0": float(config["lr0"]),
        "optimizer": config["optimizer"],
        "seed": int(config.get("seed", 0)),
        "cache": config.get("cache") or False,
        "pretrained": job.weights is not None,
        "device": device,
        "workers": workers,
        "project": str(job.work.absolute()),
        "name": "session",
        "exist_ok": True,
        "verbose": False,
        "plots": False,  # drawn in threads, and lost on a resume: the history is plotted at the end
        "patience": 0,  # `Best` decides when to stop
        "save": True,
        "val": True,
        "split": "val",
    }


def starting_point(job: TrainingJob) -> str:
    """The architecture's YAML name, or a link to the starting weights under a name that means nothing to the library."""
    if job.weights is None:
        model = str(job.config["model"])
        return model if model.endswith((".yaml", ".yml")) else f"{model}.yaml"
    link = job.work.absolute() / f"start{'.pt' if job.weights.suffix not in ('.yaml', '.yml') else job.weights.suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to(job.weights.absolute())
    return str(link)
