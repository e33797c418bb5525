"""A training loop for libraries that bring models and no trainer of their own.

Random numbers depend on the seed, the epoch and the batch or image that they are drawn for (`seeding`), gradients are never carried
over a step's end, and the learning rate follows from the number of the step. So a training that is resumed after an epoch, or after
a step, continues exactly like one that was never interrupted, whatever the number of processes that load images.

On several devices each process runs the loop on its share of every batch, and the gradients are summed once a step: the shares are
what smaller batches would be on one device. The first process alone validates, averages, reports and writes checkpoints.

Importing this module imports torch, so it is imported where a training starts.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel

from visionloop.core.errors import Defect, InvalidReceipt
from visionloop.core.logs import LOGGER
from visionloop.training import trial
from visionloop.training.pytorch import checkpoint as checkpoints
from visionloop.training.pytorch import ranks
from visionloop.training.pytorch.best import UNLABELLED, Best
from visionloop.training.pytorch.failures import diverged
from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.optimizers import Rates, optimizer_of
from visionloop.training.pytorch.seeding import seed
from visionloop.training.pytorch.trial import overfit
from visionloop.training.stopwatch import COMPUTING, LOADING, VALIDATING, Stopwatch
from visionloop.training.trainers import BatchTrial, EpochReport, Listener, StepListener, StepReport, TrainingJob


class Learner(Protocol):
    """A library's model with its data: what the loop trains."""

    #: On its device; only parameters that require gradients are trained.
    model: nn.Module
    train: TrainingBatches
    #: Batches of the validation.
    validation_batches: int
    #: Whether val has ground truth: without it an epoch is not measured, and the best epoch is the last.
    measures: bool

    @property
    def chance(self) -> float | None:
        """The loss of a model that knows nothing; None where it depends on the images."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The parts of the loss of a batch by name, each the mean over its images; the model is in training mode."""

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Metrics of a model on val by the names of docs/contract.md, ``val_loss`` where it has one; ``on_batch(done)``."""

    def description(self) -> dict[str, Any]:
        """What a model file says of the model, as JSON knows it."""


class Averaged:
    """The moving average of a model's weights, which is validated and kept in the model's place; switched off it is the model."""

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        """``decay`` is the share of the average that each step keeps, reached after some steps; None averages nothing."""
        self._model, self._decay, self.updates = model, decay or 0.0, 0
        self._average: AveragedModel | None = None
        if decay is not None:
            self._average = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The model to validate and to keep."""
        return self._model if self._average is None else self._average.module

    def update(self) -> None:
        """Moves the average towards the model, after each step."""
        if self._average is not None:
            self.updates += 1
            self._average.update_parameters(self._model)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {} if self._average is None else {"updates": self.updates, "model": self._average.module.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        if self._average is not None:
            self.updates = state["updates"]
            self._average.module.load_state_dict(state["model"])
            self._average.n_averaged.fill_(self.updates)

    @torch.no_grad()
    def _move(self, averages: Any, values: Any, _: Any) -> None:
        # The first steps count more: an average of the random start would be worth nothing.
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - decay)
            else:
                average.copy_(value)


class Loop:
    """Trains a learner. Epochs are 1-based.

    Attributes:
        history: An entry for each epoch so far, as `TrainingResult` has it.
        checkpoint: That of the last epoch of this process; None before the first.
    """

    def __init__(self, job: TrainingJob, learner: Learner, listener: Listener, device: torch.device) -> None:
        """``device`` is where the learner's model is."""
        self.job, self.learner, self.listener, self.device = job, learner, listener, device
        self.history: list[dict[str, Any]] = []
        self.checkpoint: Path | None = None
        self._member = ranks.this_process()
        config = job.config
        self._seed, self._epochs = int(config.get("seed", 0)), int(config["epochs"])
        self._optimizer = optimizer_of(self.learner.model, config)
        self._rates = Rates.of(config, steps=len(self.learner.train.steps), epochs=self._epochs)
        self._clip = float(config.get("max_grad_norm") or 0)
        mixed = bool(config.get("amp")) and self.device.type == "cuda"
        self._autocast = torch.autocast(self.device.type, torch.float16, enabled=mixed)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=mixed)
        averages = config.get("model_ema") and self._member.rank == 0
        decay = float(config["model_ema_decay"]) if averages else None
        self._averaged = Averaged(self.learner.model, decay)
        self._best = Best(str(config["primary_metric_mode"]), int(config.get("patience") or 0))
        self._best_model: Mapping[str, Tensor] = {}
        self._first = 1
        self._within: Mapping[str, Any] | None = None
        self._minutes = float(config.get("checkpoint_minutes") or 0)
        self._saved = time.monotonic()
        self._watch = Stopwatch()
        self._batches = len(self.learner.train) + self.learner.validation_batches

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues after the epoch of a checkpoint, or within the epoch that follows it.

        Raises:
            InvalidReceipt: If the checkpoint is of another model.
        """
        try:
            self.learner.model.load_state_dict(state["model"])
            self._averaged.restore(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InvalidReceipt(
                f"{self.job.checkpoint}: the checkpoint is of another model: remove it, and the training starts anew."
            ) from error
        if state["scaler"] and self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        self._best.epoch, self._best.value = state["best"]["epoch"], state["best"]["value"]
        self._best_model = state["best"]["model"]
        self.history = list(state["history"])
        self._first = int(state["epoch"]) + 1
        self._within = state.get("within")

    def try_batch(self) -> BatchTrial:
        """Trains on the first batch again and again; see `visionloop.training.trainers.TriesABatch`."""
        learner, first = self.learner, self._rates.first
        _into_training(learner.model)
        batch, size = next(learner.train.of(1)), learner.train.steps[0][0]

        def gradients() -> float:
            seed(self._seed, 1, "batch", 0)
            with self._autocast:
                loss = torch.stack(list(learner.losses(copy.deepcopy(batch)).values())).sum()
            if torch.isfinite(loss):
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        def step(number: int) -> None:
            for group in self._optimizer.param_groups:
                group["lr"] = trial.rate(first, number)
            self._step()

        return overfit(
            learner.model,
            size,
            self.listener,
            gradients=gradients,
            scale=self._scaler.get_scale,
            step=step,
            chance=learner.chance,
        )

    def run(self) -> Path:
        """Trains to the end and returns the last epoch's checkpoint, which the first process wrote.

        Raises:
            InvalidConfig: If the training diverged; the last finite checkpoint was reported before.
        """
        if not self.learner.measures:
            LOGGER.warning(UNLABELLED)
        for epoch in range(self._first, self._epochs + 1):
            ranks.broadcast_model(self.learner.model)
            losses = self._train(epoch)
            previous, self.checkpoint = self.checkpoint, self._file(f"epoch_{epoch}")
            ends = self._member.rank == 0 and self._report(epoch, losses, self._validate(epoch), self.checkpoint)
            if self._member.rank == 0 and previous:
                previous.unlink(missing_ok=True)
            if ranks.broadcast(ends):
                break
        if self.checkpoint is None:
            raise Defect("A training that is finished was begun again.")
        return self.checkpoint

    def _train(self, epoch: int) -> dict[str, float]:
        """Trains an epoch; returns the mean of each part of the loss, over the images of all processes."""
        model, train = self.learner.model, self.learner.train
        _into_training(model)
        within, self._within = self._within, None
        first = within["step"] if within else 0
        totals: dict[str, Tensor] = {}
        if within:
            totals |= {name: value.to(self.device) for name, value in within["losses"].items()}
        before = [size for sizes in train.steps[:first] for size in sizes]
        images, done, batches = sum(map(train.share, before)), len(before), train.of(epoch, first)
        self._watch.lap()
        for number, sizes in enumerate(train.steps[first:], first):
            self._rates.set(self._optimizer, (epoch - 1) * len(train.steps) + number)
            for size in sizes:
                share = train.share(size)
                batch = next(batches) if share else None
                self._watch.lap(LOADING)
                seed(self._seed, epoch, "batch", done * self._member.world + self._member.rank)
                losses = self._gradients(epoch, batch, share / sum(sizes)) if share else self._nothing()
                for name, value in losses.items():
                    totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value * share
                images, done = images + share, done + 1
                self.listener.batch(epoch, done, self._batches)
                self._watch.begin()
                self._watch.lap(COMPUTING)
            self._step()
            self._watch.lap(COMPUTING)
            if number + 1 < len(train.steps):
                self._save_within(epoch, number + 1, totals)
        whole, *others = ranks.gathered((images, {name: float(value) for name, value in totals.items()}))
        images, sums = whole
        for more, further in others:
            images += more
            sums |= {name: sums.get(name, 0.0) + value for name, value in further.items()}
        return {name: value / images for name, value in sums.items()}

    def _gradients(self, epoch: int, batch: Any, weight: float) -> dict[str, Tensor]:
        """Adds a batch's gradients, weighted by its share of the step's images; returns the parts of its loss."""
        with self._autocast:
            losses = self.learner.losses(batch)
            loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            self._diverged(epoch)
        self._scaler.scale(loss * weight).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach().float() for name, value in losses.items()}

    def _nothing(self) -> dict[str, Tensor]:
        """Takes part in a batch of which this process has no image; returns no parts of a loss."""
        self._scaler.scale(torch.zeros((), device=self.device))  # it makes a step only once it has scaled a loss
        return {}

    def _step(self) -> None:
        ranks.sum_gradients(self.learner.model.parameters())
        if self._clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.learner.model.parameters(), self._clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._averaged.update()

    def _save_within(self, epoch: int, step: int, losses: Mapping[str, Tensor]) -> None:
        """Writes and reports a checkpoint within an epoch, where one is due.

        Args:
            epoch: The epoch under way.
            step: How many of its steps are done.
            losses: The sums of the parts of the loss over the images so far.
        """
        if not self._minutes or time.monotonic() - self._saved < 60 * self._minutes:
            return
        if not isinstance(self.listener, StepListener):
            return
        self._check_finite(epoch)
        previous, self.checkpoint = self.checkpoint, self._file(f"epoch_{epoch}_step_{step}")
        state = self._state(epoch - 1, finished=False) | {"within": {"step": step, "losses": dict(losses)}}
        checkpoints.write(state, self.checkpoint, checkpoints.WITHIN_EPOCH)
        self.listener.step(StepReport(epoch, step, self.checkpoint))
        if previous:
            previous.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _file(self, name: str) -> Path:
        return self.job.work / "checkpoints" / f"{name}.pt"

    @torch.no_grad()
    def _check_finite(self, epoch: int) -> None:
        model = self._averaged.model
        for module in {id(model): model, id(self.learner.model): self.learner.model}.values():
            if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
                self._diverged(epoch)

    @torch.no_grad()
    def _validate(self, epoch: int) -> dict[str, float]:
        self._check_finite(epoch)
        model = self._averaged.model
        model.eval()
        seed(self._seed, epoch, "validation")
        first = len(self.learner.train)
        metrics = self.learner.validate(model, lambda done: self.listener.batch(epoch, first + done, self._batches))
        self._watch.lap(VALIDATING)
        return metrics

    def _report(self, epoch: int, losses: Mapping[str, float], metrics: Mapping[str, float], file: Path) -> bool:
        """Writes and reports an epoch's checkpoint; returns whether the training ends."""
        name = str(self.job.config["primary_metric"])
        if any(not math.isfinite(value) for value in metrics.values()):
            self._diverged(epoch)
        stop = self._best(epoch, metrics.get(name) if self.learner.measures else None) or epoch == self._epochs
        if self._best.epoch == epoch:
            self._best_model = _copied(self._averaged.model)
        rate = float(self._optimizer.param_groups[0]["lr"])
        parts = losses if len(losses) > 1 else {}
        train_metrics = {"loss": sum(losses.values()), **parts, "lr": rate}
        self.history.append({"epoch": epoch, "train_metrics": train_metrics, "val_metrics": dict(metrics)})
        checkpoints.write(self._state(epoch, stop), file)
        self._saved = time.monotonic()
        go_on = self.listener.epoch(
            EpochReport(
                epoch=epoch,
                train_metrics=train_metrics,
                val_metrics=metrics,
                checkpoint=file,
                best_epoch=self._best.epoch,
                best_value=self._best.value,
                stopping=stop,
                seconds=self._watch.epoch(),
                train_batches=len(self.learner.train),
            )
        )
        return stop or not go_on

    def _state(self, epoch: int, finished: bool) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "finished": finished,
            "batch": self.job.batch,
            "model": self.learner.model.state_dict(),
            "average": self._averaged.state(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": self.history,
            "best": {"epoch": self._best.epoch, "value": self._best.value, "model": self._best_model},
            "description": self.learner.description(),
        }

    def _diverged(self, epoch: int) -> None:
        raise diverged(epoch, self.job.config["lr0"])


def _into_training(model: nn.Module) -> None:
    """Puts a model into training mode, but for its frozen normalisations, which would go on counting."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _NormBase) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def batches_of(loader: Any, on_batch: Callable[[int], None]) -> Iterator[Any]:
    """The batches of a validation, each reported once it is done."""
    for done, batch in enumerate(loader, 1):
        yield batch
        on_batch(done)
