"""The child process: runs a trainer on a job and reports finished work to the stage."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from visionloop.core import structs, texts
from visionloop.core.errors import Transient, VisionloopError, is_panic
from visionloop.core.logs import LOGGER, configure, utc
from visionloop.core.packages import is_foreign, not_installed
from visionloop.core.processes import die_with_parent, end_quickly
from visionloop.core.receipts import finite
from visionloop.training import catalog
from visionloop.training.devices import CPU, device_name, peak_gpu_bytes
from visionloop.training.supervision import channel
from visionloop.training.trainers import EpochReport, StepReport, Trainer, TrainingJob, TriesABatch

#: Images named in one message.
IMAGES_PER_MESSAGE = 1000


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """A training job as JSON; paths as text. ``lines`` asks for the lines of the child's log as messages."""

    trainer: str
    task: str
    dataset: str
    classes: list[str]
    config: dict[str, bool | int | float | str | None]
    weights: str | None
    work: str
    checkpoint: str | None
    batch: int
    keypoints: list[str] = []
    flip: list[int] = []
    run: str = ""
    trace_id: str = ""
    lines: bool = False

    def job(self) -> TrainingJob:
        """The job for the trainer."""
        return TrainingJob(
            task=self.task,
            dataset=Path(self.dataset),
            classes=tuple(self.classes),
            config=self.config,
            weights=Path(self.weights) if self.weights else None,
            work=Path(self.work),
            checkpoint=Path(self.checkpoint) if self.checkpoint else None,
            batch=self.batch,
            keypoints=tuple(self.keypoints),
            flip=tuple(self.flip),
        )


class ChannelListener:
    """Reports a trainer's progress to the stage."""

    def __init__(self, end: channel.Channel, dataset: Path) -> None:
        """``end`` is this process's end of the channel, ``dataset`` the job's dataset folder."""
        self._channel = end
        self._dataset = dataset
        self._answers = end.lines(None)

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Reports a finished batch, as a sign of life."""
        self._channel.send(channel.Batch(epoch, batch, batches))

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Reports the images of a split that the trainer uses; the stage compares them with the converted dataset's."""
        roots = {os.path.join(folder, "") for folder in (self._dataset, self._dataset.resolve())}
        names = [_below(roots, os.fspath(path)) for path in paths]
        for start in range(0, max(1, len(names)), IMAGES_PER_MESSAGE):
            end = start + IMAGES_PER_MESSAGE
            self._channel.send(channel.Images(split, names[start:end], end >= len(names)))

    def epoch(self, report: EpochReport) -> bool:
        """Reports an epoch and waits until its checkpoint is set aside. Returns whether to go on."""
        reported = {"train_metrics": report.train_metrics, "val_metrics": report.val_metrics, "seconds": report.seconds}
        numbers = {part: finite(values) for part, values in reported.items()}
        self._channel.send(
            channel.Epoch(
                epoch=report.epoch,
                train_metrics=numbers["train_metrics"],
                val_metrics=numbers["val_metrics"],
                checkpoint=str(report.checkpoint),
                best_epoch=report.best_epoch,
                best_value=report.best_value if math.isfinite(report.best_value) else None,
                stopping=report.stopping,
                seconds=numbers["seconds"],
                left_out=[
                    f"{name} ({part})"
                    for part, values in reported.items()
                    for name in values
                    if name not in numbers[part]
                ],
                peak_gpu_bytes=report.peak_gpu_bytes or peak_gpu_bytes(),
                train_batches=report.train_batches,
            )
        )
        return self._answer()

    def step(self, report: StepReport) -> None:
        """Reports a checkpoint within an epoch and waits until it is set aside."""
        self._channel.send(channel.Step(report.epoch, report.step, str(report.checkpoint)))
        self._answer()

    def _answer(self) -> bool:
        answer = next(self._answers, None)
        return answer is not None and structs.decode(answer, channel.Answer).proceed


class _Lines(logging.Handler):
    """Hands the lines of the child's log to the stage."""

    def __init__(self, end: channel.Channel) -> None:
        super().__init__()
        self._channel = end

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # the stage is gone, as the trainer's next report will find
            message = texts.outgoing(record.getMessage())
            self._channel.send(channel.Line(record.levelname, message, utc(record.created)))


class _TrialListener(ChannelListener):
    """Reports the steps of a trial and nothing else."""

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Is not reported: they are a few of many."""


def main(
    job_file: str,
    descriptor: int,
    listening: Callable[[channel.Channel, Path], ChannelListener] = ChannelListener,
    work: Callable[[Any, TrainingJob, ChannelListener], channel.Done | channel.Tried] | None = None,
) -> int:
    """Trains; returns the process's exit code.

    Args:
        job_file: The file with the job.
        descriptor: This process's end of the channel.
        listening: Makes what the trainer reports to.
        work: What is done with the trainer, and the message that ends it; without it the whole training.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage handles Ctrl-C
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may stop what writes from another group than its own
    die_with_parent(VisionloopError.exit_code)
    end_quickly()
    end = channel.Channel(socket.socket(fileno=descriptor))
    job = structs.decode(Path(job_file).read_bytes(), JobFile)
    configure(trace_id=job.trace_id, run=job.run, stage="train")
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = LOGGER.handlers
    if job.lines:
        LOGGER.addHandler(_Lines(end))
    try:
        trainer = catalog.trainer(job.trainer)
        training = job.job()
        end.send((work or _train)(trainer, training, listening(end, training.dataset)))
    except BrokenPipeError:
        return VisionloopError.exit_code  # the stage is gone: nobody is left to report to
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        # Whatever it is, it must be reported to the stage.
        failed = failure(error, job.trainer)
        end.send(failed)
        return failed.exit_code
    return 0


def try_batch(job_file: str, descriptor: int) -> int:
    """Tries a batch in place of a training; arguments and result are those of `main`."""
    return main(job_file, descriptor, _TrialListener, _try)


def _train(trainer: Trainer, job: TrainingJob, listener: ChannelListener) -> channel.Done:
    result = trainer.train(job, listener)
    return channel.Done(
        best=str(result.best),
        last=str(result.last),
        best_epoch=result.best_epoch,
        epochs=result.epochs,
        history=[_entry(entry) for entry in result.history],
        plots=[str(path) for path in result.plots],
        batch=result.batch,
        versions=dict(line.split("==", 1) for line in trainer.requirements() if "==" in line),
        devices=_devices(job.config.get("device")),
    )


def _try(trainer: TriesABatch, job: TrainingJob, listener: ChannelListener) -> channel.Tried:
    trial = trainer.try_batch(job, listener)
    return channel.Tried(
        losses=[loss if math.isfinite(loss) else None for loss in trial.losses],
        gradients=finite(trial.gradients),
        weights=trial.weights,
        trained=trial.trained,
        images=trial.images,
        chance=trial.chance,
        devices=_devices(job.config.get("device")),
    )


def failure(error: BaseException, trainer: str) -> channel.Failed:
    """The message to the stage about a training that an error ended; ``trainer`` is the trainer's name."""
    if isinstance(error, ModuleNotFoundError) and is_foreign(error):
        error = not_installed(error, f"The trainer {trainer}", extra=trainer)
    if isinstance(error, VisionloopError):
        return channel.Failed(exit_code=error.exit_code, error_code=error.error_code, sentence=error.sentence)
    if isinstance(error, MemoryError):
        text = "The machine's memory is used up; give the stage more memory or lower batch, imgsz or workers."
        return channel.Failed(exit_code=Transient.exit_code, error_code=Transient.error_code, sentence=text)
    text = f"train met a defect of Visionloop or {trainer} ({type(error).__name__}: {error}); please report it."
    return channel.Failed(exit_code=70, error_code="INTERNAL", sentence=text, traceback=texts.traceback(error))


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a history without values that are not finite, which were named in the report of its epoch."""
    return {**entry, **{part: finite(entry[part]) for part in ("train_metrics", "val_metrics") if part in entry}}


def _below(roots: Iterable[str], path: str) -> str:
    """A path relative to the one of the folders that it lies in."""
    return next((path.removeprefix(root) for root in roots if path.startswith(root)), path)


def _devices(device: object) -> list[str]:
    """The GPUs that a training with this setting computes on, by name; empty without torch or a GPU."""
    torch, name = sys.modules.get("torch"), device_name(device)
    if name == CPU or torch is None or not torch.cuda.is_available():
        return []
    numbers = [int(word) for word in name.split(",") if word.isdecimal()] if name else [0]
    return [torch.cuda.get_device_name(number) for number in numbers]
