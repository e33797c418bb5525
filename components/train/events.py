"""What a training tells while it goes on (``visionloop.training.events``): its events, and the lines of its log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from visionloop.core import progress
from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.receipts import Result
from visionloop.core.runs import Failure
from visionloop.core.stage import Context
from visionloop.training.events import Checkpoint, LogLine, Metrics, Progress, Started, endings
from visionloop.training.events.lines import level_of
from visionloop.training.events.payloads import TRAINING, About
from visionloop.training.events.stage import StageEvents
from visionloop.training.supervision import channel


class TrainingEvents(StageEvents):
    """Tells of one call of the train stage."""

    family = TRAINING
    work = "training"

    def __init__(self, context: Context, environment: Mapping[str, str]) -> None:
        """Reads who is told. Raises InvalidConfig if the variables can't be used."""
        super().__init__(context, environment)
        self._began = 0.0
        self._epochs = self._first_epoch = 0

    def begin(self, attempt: str, device: object, epochs: int, resumed_after: int) -> None:
        """Tells that an attempt has begun; from here on the lines of the log are told too.

        Args:
            attempt: The attempt's name.
            device: The setting.
            epochs: Epochs that are asked for.
            resumed_after: The epoch whose checkpoint it goes on from; 0 at the beginning.
        """
        if not self.listens:
            return
        self._began, self._epochs, self._first_epoch = time.monotonic(), epochs, resumed_after
        about = {"operation_type": "training", "total_epochs": epochs, "resumed_after_epoch": resumed_after}
        self._start(attempt, Started, device, **about)
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

    def _failed(self, failure: Failure) -> About:
        return endings.ended(self._context.run, self._context.trace_id, failure)

    def _completed(self, result: Result, scalars: Mapping[str, Any], *, reused: bool) -> About:
        return endings.completed(self._context.run, self._context.trace_id, result, reused=reused)

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
