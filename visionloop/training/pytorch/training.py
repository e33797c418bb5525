"""Trains a job with the loop here, resumed or not, and makes its result from the last epoch's checkpoint."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.logs import LOGGER
from visionloop.training.devices import device_name
from visionloop.training.pytorch import checkpoint, distributed, models
from visionloop.training.pytorch.device import resolve_device
from visionloop.training.pytorch.failures import Further, nothing_further, translated
from visionloop.training.pytorch.history import plot_history
from visionloop.training.pytorch.seeding import seed
from visionloop.training.pytorch.workers import available_cpus, free_shared_memory, usable_workers
from visionloop.training.trainers import BatchTrial, Listener, TrainingJob, TrainingResult

if TYPE_CHECKING:
    import torch

    from visionloop.training.pytorch.loop import Learner, Loop

    MakesLearner = Callable[[TrainingJob, torch.device, Listener], Learner]

#: Threads of torch on the CPU, unless OMP_NUM_THREADS says otherwise: their number decides the order in which sums are added up, and
#: so a result's last bits.
THREADS = 1


def set_threads() -> None:
    """Sets the number of torch's CPU threads for training and evaluation, whose results are promised to be equal; predictions leave it."""
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdecimal() and int(threads) else THREADS)


def torch_device(device: object) -> torch.device:
    """The device of the setting ``device``, in torch's words. Raises as `resolve_device`."""
    chosen = resolve_device(device)
    LOGGER.info("computing on %s", chosen.words)
    return _named(chosen.name)


def _named(name: str) -> torch.device:
    import torch

    return torch.device(f"cuda:{name}" if name.isdecimal() else name)


def loading_workers(job: TrainingJob) -> int:
    """How many processes load the images of a job, limited by this process's share of the machine."""
    from visionloop.training.pytorch.ranks import this_process

    # The processes of a training share the CPUs; together they load a batch at a time.
    workers, reason = usable_workers(
        int(job.config.get("workers", 0)),
        job.batch,
        int(job.config["imgsz"]),
        max(1, available_cpus() // this_process().world),
        free_shared_memory(),
    )
    if reason:
        LOGGER.warning(reason)
    return workers


def train(
    job: TrainingJob,
    listener: Listener,
    learner: MakesLearner,
    further: Further = nothing_further,
) -> TrainingResult:
    """Trains a job, or only finalises it if its checkpoint is from a finished training.

    The result is always made from a checkpoint that was read back from its file, so a training that was interrupted ends
    with the same bytes as one that was not.

    Args:
        job: The training's inputs.
        listener: Receives batches and epochs, and may stop the training after an epoch.
        learner: Makes the model and its data, on a device, and reports the images; for several devices a function of a module.
        further: Recognises what the library itself raises; for several devices a function of a module.

    Raises:
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost, or the disk full.
        Transient: If a process that loads images died.
        InvalidConfig: If training diverged; the last finite checkpoint was reported.
    """
    with translated(job.batch, int(job.config["imgsz"]), further):
        state = checkpoint.read(job.checkpoint) if job.checkpoint else None
        last = job.checkpoint
        if last is None or state is None or not checkpoint.is_finished(state, int(job.config["epochs"])):
            names = device_name(job.config.get("device")).split(",")
            if len(names) > 1:
                LOGGER.info("computing on %s", resolve_device(job.config["device"]).words)
                last = train_on(names, job, listener, learner, further)
            else:
                last = _run(job, listener, learner, state, torch_device(job.config.get("device")))
        return finalise(last, job)


def try_batch(
    job: TrainingJob, listener: Listener, learner: MakesLearner, further: Further = nothing_further
) -> BatchTrial:
    """Trains on the first batch of a job again and again, on its first device; see `visionloop.training.trainers.TriesABatch`.

    Args:
        job: A training on a few images.
        listener: Told of each step.
        learner: As for `train`.
        further: As for `train`.

    Raises:
        VisionloopError: As `train`.
    """
    with translated(job.batch, int(job.config["imgsz"]), further):
        names = device_name(job.config.get("device")).split(",")
        job = replace(job, batch=max(job.batch // len(names), 1), config={**job.config, "device": names[0]})
        device = torch_device(names[0])
        _prepare(job)
        made = learner(job, device, listener)
        weights = list(made.model.parameters())
        if not any(value.requires_grad for value in weights):
            return BatchTrial((), {}, weights=sum(value.numel() for value in weights), trained=0, images=job.batch)
        return _loop(job, made, listener, device).try_batch()


def train_on(
    devices: Sequence[str],
    job: TrainingJob,
    listener: Listener,
    learner: MakesLearner,
    further: Further = nothing_further,
) -> Path:
    """Trains a job to its end in a process for each device and returns the last epoch's checkpoint; see `train`."""
    program = functools.partial(_rank, tuple(devices), learner, further)
    return distributed.run(program, job, listener, len(devices))


def _rank(
    devices: Sequence[str],
    learner: MakesLearner,
    further: Further,
    job: TrainingJob,
    listener: Listener,
    seat: distributed.Seat,
) -> Path:
    """What the process of one of several devices runs."""
    from visionloop.training.pytorch import ranks

    with translated(job.batch, int(job.config["imgsz"]), further):
        own = replace(job, config={**job.config, "device": devices[seat.rank]})
        device = _named(devices[seat.rank])
        ranks.join(seat, device)
        state = checkpoint.read(job.checkpoint) if job.checkpoint else None
        return _run(own, listener, learner, state, device)


def _run(
    job: TrainingJob,
    listener: Listener,
    learner: MakesLearner,
    state: Mapping[str, Any] | None,
    device: torch.device,
) -> Path:
    _prepare(job)
    loop = _loop(job, learner(job, device, listener), listener, device)
    if state:
        loop.restore(state)
    return loop.run()


def _prepare(job: TrainingJob) -> None:
    """Makes torch compute as the settings say, from the seed on."""
    import torch

    set_threads()
    # Where there is no deterministic algorithm, torch warns and takes the other one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(bool(job.config.get("deterministic", True)), warn_only=True)
    torch.backends.cudnn.benchmark = False
    seed(job.config.get("seed", 0), "start")


def _loop(job: TrainingJob, learner: Learner, listener: Listener, device: torch.device) -> Loop:
    from visionloop.training.pytorch.loop import Loop

    return Loop(job, learner, listener, device)


def finalise(path: Path, job: TrainingJob) -> TrainingResult:
    """Writes the files of a training's result from its last epoch's checkpoint, and returns the result."""
    state = checkpoint.read(path)
    last = state["average"].get("model") or state["model"]
    return TrainingResult(
        best=models.write(state["best"]["model"], state["description"], job.work / f"best{models.SUFFIX}"),
        last=models.write(last, state["description"], job.work / f"last{models.SUFFIX}"),
        best_epoch=state["best"]["epoch"],
        epochs=state["epoch"],
        history=state["history"],
        plots=[plot_history(state["history"], job.work / "results.png")],
        batch=state["batch"],
    )
