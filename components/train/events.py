"""What a training tells while it goes on (``visionloop.training.events``): its events, and the lines of its log."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from visionloop.core import progress, texts
from visionloop.core.errors import RETRYABLE, NotFound, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.runs import Failure
from visionloop.core.stage import Context, Outcome
from visionloop.training.driver import first_gpu
from visionloop.training.events import (
    Checkpoint,
    GpuInfo,
    LogLine,
    Metrics,
    Progress,
    Publisher,
    Started,
    endings,
    receivers,
)
from visionloop.training.events.lines import Lines, level_of
from visionloop.training.supervision import channel


class TrainingEvents:
    """Tells of one call of the train stage. Nothing is sent, and no thread started, where no receiver is named."""

    def __init__(self, context: Context, environment: Mapping[str, str]) -> None:
        """Reads who is told. Raises InvalidConfig if the variables can't be used."""
        self._context, self._environment = context, environment
        self._receivers = receivers(environment, context.run.name)
        self._publisher: Publisher | None = None
        self._lines: Lines | None = None
        self._began = 0.0
        self._epochs = self._first_epoch = 0

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._receivers)

    def begin(self, attempt: str, device: object, epochs: int, resumed_after: int) -> None:
        """Tells that an attempt has begun; from here on the lines of the log are told too.

        Args:
            attempt: The attempt's name.
            device: The setting.
            epochs: Epochs that are asked for.
            resumed_after: The epoch whose checkpoint it goes on from; 0 at the beginning.
        """
        if not self._receivers:
            return
        self._publisher = publisher = self._make_publisher(attempt)
        self._began, self._epochs, self._first_epoch = time.monotonic(), epochs, resumed_after
        gpu = first_gpu(device, self._environment)
        publisher.started(
            Started(
                **publisher.about,
                pid=os.getpid(),
                hostname=socket.gethostname(),
                gpu_info=GpuInfo(*gpu) if gpu else None,
                operation_type="training",
                total_epochs=epochs,
                resumed_after_epoch=resumed_after,
            )
        )
        self._lines = Lines(publisher)
        LOGGER.addHandler(self._lines)
        self._tell_repeats()

    def epoch(self, epoch: channel.Epoch, checkpoint: progress.Checkpoint, uri: str) -> None:
        """Tells of an epoch that has become durable.

        Args:
            epoch: The epoch.
            checkpoint: Its checkpoint.
            uri: The checkpoint's URI.
        """
        done = epoch.epoch - self._first_epoch
        pace = (time.monotonic() - self._began) / done if done > 0 else 0.0
        left = 0 if epoch.stopping else self._epochs - epoch.epoch
        self._tell_epoch(
            checkpoint,
            uri,
            epoch.train_metrics,
            epoch.val_metrics,
            best_epoch=epoch.best_epoch,
            eta=round(pace * left),
            step=epoch.train_batches * epoch.epoch if epoch.train_batches else None,
            last=left == 0,
        )

    def step(self, checkpoint: progress.Checkpoint, uri: str) -> None:
        """Tells of a checkpoint within an epoch that has become durable.

        Args:
            checkpoint: The checkpoint.
            uri: Its URI.
        """
        if self._publisher is None:
            return
        epoch = checkpoint.epoch + 1
        within = Checkpoint(
            **self._publisher.about,
            epoch=epoch,
            step=checkpoint.step,
            checkpoint_path=uri,
            checkpoint_type="last",
            is_best=False,
            metrics={},
            file_size_bytes=checkpoint.size,
        )
        self._publisher.epoch([within], last=epoch == self._epochs)

    def epoch_again(self, earlier: progress.Progress, checkpoint: progress.Checkpoint, uri: str) -> None:
        """Tells of the last durable epoch again: the attempt that made it may have been killed before it told.

        Args:
            earlier: The progress that the attempt goes on from.
            checkpoint: That epoch's checkpoint.
            uri: The checkpoint's URI.
        """
        self._tell_epoch(
            checkpoint,
            uri,
            earlier.train_metrics,
            earlier.val_metrics,
            best_epoch=earlier.best_epoch,
            eta=None,
            step=None,
            last=earlier.finished,
        )

    def line_of_the_trainer(self, line: channel.Line) -> None:
        """Tells a line that the trainer's process has logged."""
        if self._publisher is not None:
            self._publisher.log(
                LogLine(level=level_of(line.level), message=line.message, timestamp=line.timestamp, source="trainer")
            )

    def ended(self, end: Outcome | Failure) -> Mapping[str, int]:
        """Tells the end: that it is complete, or a failure that no engine retries. Returns how many events there were.

        A training that was there already, or that another run did, is told by its completion alone.
        """
        if not self._receivers:
            return {}
        try:
            if self._lines is not None:
                LOGGER.removeHandler(self._lines)
            publisher = self._publisher or self._make_publisher("")
            run, trace_id = self._context.run, self._context.trace_id
            if isinstance(end, Failure):
                if end.exit_code not in RETRYABLE:
                    publisher.ended(endings.ended(run, trace_id, end))
            elif end.result is not None:
                reused = end.result.receipt.attempt not in self._context.attempts
                publisher.ended(endings.completed(run, trace_id, end.result, reused=reused))
            return publisher.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the training's own end counts
            LOGGER.warning(
                "the training's end could not be told: %s", texts.sentence(f"{type(error).__name__}: {error}")
            )
            return {}

    def _tell_repeats(self) -> None:
        """Says so where this run has told of a complete training before: by the ids alone this one is the same again."""
        run = self._context.run
        with contextlib.suppress(VisionloopError, NotFound):
            state = run.state("train")
            if state.receipt and state.events:
                LOGGER.warning(
                    "events: the run %s has told of a complete training before, and what this one tells has the same ids: a receiver that "
                    "drops repeats misses it. Give another training a run of its own (--run).",
                    run.name,
                )

    def _make_publisher(self, attempt: str) -> Publisher:
        return Publisher(self._receivers, self._context.run.name, self._context.trace_id, attempt)

    def _tell_epoch(
        self,
        checkpoint: progress.Checkpoint,
        uri: str,
        train: Mapping[str, float],
        val: Mapping[str, float],
        *,
        best_epoch: int,
        eta: int | None,
        step: int | None,
        last: bool,
    ) -> None:
        publisher, epoch = self._publisher, checkpoint.epoch
        if publisher is None:
            return
        about, both, is_best = publisher.about, {**train, **val}, best_epoch == epoch
        publisher.epoch(
            [
                Metrics(**about, epoch=epoch, step=step, phase="train", metrics=dict(train)),
                Metrics(**about, epoch=epoch, step=None, phase="val", metrics=dict(val)),
                Checkpoint(
                    **about,
                    epoch=epoch,
                    step=0,
                    checkpoint_path=uri,
                    checkpoint_type="best" if is_best else "last",
                    is_best=is_best,
                    metrics=both,
                    file_size_bytes=checkpoint.size,
                ),
                Progress(
                    **about,
                    status="running",
                    epoch=epoch,
                    current_epoch=epoch,
                    total_epochs=self._epochs,
                    phase="val",
                    eta_seconds=eta,
                    metrics=both,
                ),
            ],
            last=last,
        )
