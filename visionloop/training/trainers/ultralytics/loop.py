"""The library's own training loop, with best epoch, checkpoints, seeds and failures handled here.

The random numbers of an epoch depend on the seed and the epoch alone, in this process and in its loaders' workers, which
are restarted for each epoch. So no random state is carried from one epoch to the next, and a training that is resumed
after an epoch continues exactly like one that was never interrupted, even with mosaic and workers, and whatever the
device was before.

On several devices each process runs this loop as a rank of the library's own distributed training, started here. Rank 0 alone
decides the best epoch and the end, writes checkpoints and reports.

Importing this module imports the library, so it is imported where a training starts.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from visionloop.core.errors import Defect, InvalidConfig, InvalidDataset
from visionloop.core.logs import LOGGER
from visionloop.training import trial
from visionloop.training.pytorch import ranks
from visionloop.training.pytorch.best import UNLABELLED
from visionloop.training.pytorch.checkpoint import write
from visionloop.training.pytorch.distributed import Seat
from visionloop.training.pytorch.failures import diverged
from visionloop.training.pytorch.memory import check_memory
from visionloop.training.pytorch.trial import overfit
from visionloop.training.stopwatch import COMPUTING, LOADING, VALIDATING, Stopwatch
from visionloop.training.trainers import BatchTrial, EpochReport, Listener, TrainingJob
from visionloop.training.trainers.ultralytics import checkpoint, starting
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.progress import Stopper, train_metrics, val_metrics
from visionloop.training.trainers.ultralytics.settings import check_stride
from visionloop.training.trainers.ultralytics.tasks import TASKS

BaseTrainer = library().engine.trainer.BaseTrainer
unwrapped = library().utils.torch_utils.unwrap_model


@dataclass(frozen=True)
class Plan:
    """What a loop needs in addition to the library's own arguments."""

    job: TrainingJob
    listener: Listener
    state: dict[str, Any] | None
    seat: Seat | None = None


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """The seed of all random numbers of an epoch on one of several devices, below 2**32."""
    parts = f"{seed}:{epoch}:{rank}" if rank else f"{seed}:{epoch}"
    return int.from_bytes(hashlib.sha256(parts.encode()).digest()[:4])


class Loop(BaseTrainer):  # type: ignore[misc,valid-type]
    """Overrides the library's training loop for every task; `loop_class` combines it with the trainer of a task.

    Hooks have the names of the library's events and methods; epochs are 0-based here, 1-based in reports.
    """

    #: The library's own: what this process computes on, and the means of the losses in the epoch so far.
    device: torch.device
    tloss: dict[str, torch.Tensor]

    def __init__(self, arguments: dict[str, Any], plan: Plan) -> None:
        """``arguments`` are the library's own."""
        self.plan = plan
        self.job = plan.job
        self.checkpoint: Path | None = None
        self.history: list[dict[str, Any]] = list(plan.state["history"]) if plan.state else []
        self.best_model: Mapping[str, Any] = plan.state["best"]["model"] if plan.state else {}
        self.position = -1  # of the current batch, counted over all epochs
        self.last_step = -1  # position of the last optimizer step
        self.step_delay = 0
        self.measures = True
        self.stop = False
        self.watch = Stopwatch()
        super().__init__(overrides=arguments)
        self.add_callback("on_val_batch_end", self.on_val_batch_end)

    # Surroundings

    def run_callbacks(self, event: str) -> None:
        """Runs this class's own method of an event, and no integration's."""
        handler = getattr(self, event, None)
        if handler:
            handler()

    def get_dataset(self) -> dict[str, Any]:
        """The library's description of the dataset, with the class names unchanged."""
        data: dict[str, Any] = super().get_dataset()
        if self.whole_images:
            # The names are those of the folders, by which the library finds an image's class.
            if len(data["names"]) != len(self.job.classes):
                raise InvalidDataset(
                    f"{self.job.dataset}/train has {len(data['names'])} folders of classes, and the dataset has "
                    f"{len(self.job.classes)} classes: give each a folder, if need be an empty one."
                )
        elif not self.args.single_cls:
            data["names"] = dict(enumerate(self.job.classes))
        return data

    @property
    def whole_images(self) -> bool:
        """Whether images are classified as a whole: their folders are the labels, and nothing is drawn from other images."""
        return self.job.task == "classification"

    @property
    def class_names(self) -> Mapping[int, str]:
        """The model's class names by index."""
        names: Mapping[int, str] = self.data["names"]
        return dict(enumerate(self.job.classes)) if self.whole_images else names

    @property
    def own_model(self) -> Any:
        """The model itself, without what several devices put around it."""
        return unwrapped(self.model)

    def _setup_ddp(self) -> None:
        """Joins the other ranks by a file, where the library would use a port of this machine."""
        seat = self.plan.seat
        if seat is None:
            raise Defect("The library began to train on several devices by itself.")
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(self.args.device.split(",")[seat.rank]))
        ranks.join(seat, self.device)

    def setup_model(self) -> Any:
        """Sets up the model; checks that starting weights are the library's and for the task, and that the model fits onto its device."""
        try:
            loaded = super().setup_model()
        except (TypeError, ModuleNotFoundError) as error:
            if self.job.weights is None:
                raise
            raise InvalidConfig(
                f"The starting weights {self.job.config['model']} ({self.job.weights}) are not weights that the library "
                "loads: give a .pt file of its own, or an architecture's YAML name."
            ) from error
        model = (loaded or {}).get("ema") or (loaded or {}).get("model")
        task = getattr(model, "task", self.args.task)
        if task != self.args.task:
            raise InvalidConfig(
                f"The starting weights {self.job.config['model']} are for the library's task {task}, "
                f"not for {self.args.task}: choose others."
            )
        if model is not None and not self.args.single_cls:
            starting.tell(model, str(self.job.config["model"]), self.job.classes, self.job.keypoints)
            if self.whole_images:
                starting.map_classes(self.model, model, self.job.classes)
        check_memory(
            self.model,
            self.device,
            self.job.config,
            trained=not self.job.config.get("freeze"),  # what is frozen is decided later
            averaged=True,
            batch=self.batch_size // max(self.world_size, 1),
        )
        return loaded

    def plot_training_labels(self) -> None:
        """Does nothing: no plots are drawn during training."""

    # Start and resume

    def _setup_train(self) -> None:
        super()._setup_train()
        config = self.job.config
        check_stride(config["imgsz"], int(self.stride))
        self.stopper = Stopper(str(config["primary_metric_mode"]), int(config.get("patience") or 0))
        self._check_cache()
        # Without a label the library says 0, which would be a measurement.
        self.measures = self.whole_images or any(len(entry["cls"]) for entry in self.test_loader.dataset.labels)
        if not self.measures:
            LOGGER.warning(UNLABELLED)
        for split, loader in (("train", self.train_loader), ("val", self.test_loader)):
            dataset = loader.dataset
            files = [sample[0] for sample in dataset.samples] if self.whole_images else dataset.im_files
            self.plan.listener.images(split, files)
        if self.plan.state:
            self._restore(self.plan.state)

    def _check_cache(self) -> None:
        """Refuses a cache that the library has left out for want of room: the weights would be those of another key."""
        wanted, dataset = self.job.config.get("cache"), self.train_loader.dataset
        if self.whole_images:
            kept = "ram" if dataset.cache_ram else "disk" if dataset.cache_disk else None
        else:
            kept = dataset.cache
        if wanted and kept != wanted:
            room = "memory" if wanted == "ram" else "disk"
            raise InvalidConfig(
                f"cache is {wanted}, but the decoded images do not fit into this machine's {room}: "
                f"give the stage more {room}, or leave cache out."
            )

    def _restore(self, state: dict[str, Any]) -> None:
        """Restores everything that the epoch after ``state`` depends on, on this device."""
        self.own_model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        for saved, group in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            # Which kernel runs depends on this device, not on the one that saved the state.
            saved |= {name: group[name] for name in ("fused", "foreach", "capturable") if name in group}
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.stopper.epoch, self.stopper.value = state["best"]["epoch"], state["best"]["value"]
        self.start_epoch = state["epoch"]
        self.scheduler.last_epoch = self.start_epoch - 1
        criterion = self.own_model.init_criterion()
        if hasattr(criterion, "update"):  # its gains depend on the epoch
            self.own_model.criterion = criterion
            for _ in range(self.start_epoch):
                criterion.update()

    def _resume_accumulation(self, state: dict[str, Any]) -> None:
        """Restores the gradients accumulated since the last step, and the timing of the next steps.

        The library's loop starts as if a step had been made just before batch 0 of the whole training, so the first
        step is delayed by the number of batches up to the real last step.
        """
        batches = len(self.train_loader)
        since = state["since_step"] if state["batches"] == batches else 0
        self.last_step = self.start_epoch * batches - 1 - since
        self.step_delay = self.last_step + 1
        if since:
            for name, parameter in self.own_model.named_parameters():
                if name in state["gradients"]:
                    parameter.grad = state["gradients"][name].to(parameter.device)

    @property
    def accumulate(self) -> int:
        """Batches from one optimizer step to the next; the first step after a resume is counted from batch 0."""
        return int(self.step_every) + self.step_delay

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        self.step_every = value

    # An epoch

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch and clears what the previous one left behind."""
        self.watch.lap()
        seed = epoch_seed(self.args.seed, self.epoch, ranks.this_process().rank)
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        self.train_loader.reset()
        self.train_loader.generator.manual_seed(seed)
        self._reset_image_buffer()
        self.position = self.epoch * len(self.train_loader) - 1
        if self.plan.state and self.epoch == self.start_epoch:
            self._resume_accumulation(self.plan.state)

    def _reset_image_buffer(self) -> None:
        """Fills the buffer that a mosaic draws from with a sample of the dataset, in place of the previous epoch's images."""
        dataset = self.train_loader.dataset
        if self.whole_images or dataset.cache == "ram":
            return  # a mosaic draws from all images
        for index in set(dataset.buffer):
            dataset.ims[index], dataset.im_hw0[index], dataset.im_hw[index] = None, None, None
        few = min(dataset.ni, dataset.max_buffer_length // 4)
        dataset.buffer = random.sample(range(dataset.ni), few) if self.args.mosaic else []

    def on_train_batch_start(self) -> None:
        """Counts the batch, and keeps the library from changing its size."""
        self.watch.lap(LOADING)
        self.position += 1
        # The library would halve the batch itself, up to three times, without reporting it.
        self._oom_retries = 3

    def on_train_batch_end(self) -> None:
        """Reports the batch, or ends a training that diverged."""
        self._oom_retries = 0
        if not torch.isfinite(self.loss):
            self._diverged()
        batch = self.position - self.epoch * len(self.train_loader) + 1
        self.plan.listener.batch(self.epoch + 1, batch, len(self.train_loader) + len(self.test_loader))
        self.watch.lap(COMPUTING)
        self.watch.begin()

    def on_train_epoch_end(self) -> None:
        """Takes the mean of the losses over all ranks."""
        losses = ranks.gathered({name: float(value) for name, value in self.tloss.items()})
        if len(losses) > 1:
            self.tloss = {name: torch.tensor(sum(of[name] for of in losses) / len(losses)) for name in losses[0]}

    def on_val_batch_end(self, validator: Any) -> None:
        """Reports a batch of the validation."""
        done = len(self.train_loader) + validator.batch_i + 1
        self.plan.listener.batch(self.epoch + 1, done, len(self.train_loader) + len(self.test_loader))

    def optimizer_step(self) -> None:
        """Makes a step and records its batch."""
        super().optimizer_step()
        self.last_step = self.position
        self.step_delay = 0

    def validate(self) -> tuple[dict[str, float], float | None]:
        """Returns the validation's metrics, and the primary metric, which decides the best epoch; None without a label in val.

        On several devices each rank validates its part of val, and the first one has the metrics of the whole.
        """
        self.watch.lap()
        for buffer in self.ema.ema.buffers() if self.plan.seat else ():
            torch.distributed.broadcast(buffer, src=0)
        results = self.validator(self)
        self.watch.lap(VALIDATING)
        if self.plan.seat:
            # The library would take the number of the first rank's batches for that of each.
            own = {name: float(value) for name, value in self.validator.loss.items()}, len(self.test_loader)
            losses, batches = zip(*ranks.gathered(own), strict=True)
            if results is None:
                return {}, None
            results |= {f"val/{name}": round(sum(of[name] for of in losses) / sum(batches), 5) for name in losses[0]}
        results.pop("fitness", None)
        metric = str(self.job.config["primary_metric"])
        return results, val_metrics(results)[metric] if self.measures else None

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Ends a diverged training; the library would go back to an earlier epoch, or save zeros."""
        values = [*self.tloss.values(), *map(torch.as_tensor, self.metrics.values())]
        states = (self.own_model.state_dict(), self.ema.ema.state_dict())
        values += [value for state in states for value in state.values() if value.is_floating_point()]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            self._diverged()
        return False

    def _diverged(self) -> None:
        raise diverged(self.epoch + 1, self.job.config["lr0"])

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Adds the epoch to the history, in place of a line in results.csv."""
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "train_metrics": train_metrics(self.tloss, learning_rate),
                "val_metrics": val_metrics(self.metrics, measured=self.measures),
            }
        )

    def save_model(self) -> bool:
        """Writes and reports the epoch's checkpoint, and stops if the listener asks for it."""
        if self.stopper.epoch == self.epoch + 1:
            self.best_model = checkpoint.half(self.ema.ema.state_dict())
        previous, self.checkpoint = self.checkpoint, self.job.work / "checkpoints" / f"epoch_{self.epoch + 1}.pt"
        write(self._state(), self.checkpoint)
        go_on = self.plan.listener.epoch(
            EpochReport(
                epoch=self.epoch + 1,
                train_metrics=self.history[-1]["train_metrics"],
                val_metrics=self.history[-1]["val_metrics"],
                checkpoint=self.checkpoint,
                best_epoch=self.stopper.epoch,
                best_value=self.stopper.value,
                stopping=bool(self.stop),
                seconds=self.watch.epoch(),
                train_batches=len(self.train_loader),
            )
        )
        if previous:
            previous.unlink(missing_ok=True)
        self.stop = self.stop or not go_on
        return False  # nothing of the library's own was saved

    def _state(self) -> dict[str, Any]:
        batches = len(self.train_loader)
        since = (self.epoch + 1) * batches - 1 - self.last_step
        parameters = self.own_model.named_parameters() if since else ()
        return {
            "epoch": self.epoch + 1,
            "finished": bool(self.stop),
            "batch": self.batch_size,
            "batches": batches,
            "model": self.own_model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "since_step": since,
            "gradients": {name: value.grad for name, value in parameters if value.grad is not None},
            "history": self.history,
            "best": {"epoch": self.stopper.epoch, "value": self.stopper.value, "model": self.best_model},
            "architecture": checkpoint.architecture(self.own_model),
            "names": [self.class_names[index] for index in range(self.data["nc"])],
            "keypoints": list(self.job.keypoints),
            "task": self.args.task,
            "imgsz": self.args.imgsz,
            "single_cls": self.args.single_cls,
        }

    # One batch

    def try_batch(self) -> BatchTrial:
        """Trains on the first batch again and again; see `visionloop.training.trainers.TriesABatch`."""
        self._setup_train()
        self.epoch = self.start_epoch
        self.on_train_epoch_start()
        self._model_train()
        batch = self.preprocess_batch(next(iter(self.train_loader)))
        images, rates = len(batch["img"]), [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.zero_grad()

        def gradients() -> float:
            torch.manual_seed(epoch_seed(self.args.seed, self.epoch))
            with library().utils.torch_utils.autocast(self.amp, device=self.device.type):
                loss, parts = self.model(batch)
            if torch.isfinite(loss.sum()):
                self.scaler.scale(loss.sum()).backward()
            # Of objects the library's own sum is over the images of the batch.
            return sum(float(value) for value in parts.values())

        def step(number: int) -> None:
            for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = trial.rate(lr, number)
            self.optimizer_step()

        chance = math.log(len(self.job.classes)) if self.whole_images else None
        return overfit(
            self.own_model,
            images,
            self.plan.listener,
            gradients=gradients,
            scale=self.scaler.get_scale,
            step=step,
            chance=chance,
        )

    # End

    def final_eval(self) -> None:
        """Does nothing: the model files are made from the checkpoint, and evaluated by their own stage."""

    def close_loaders(self) -> None:
        """Ends the loaders' workers."""
        for loader in (getattr(self, "train_loader", None), getattr(self, "test_loader", None)):
            if loader is not None:
                loader.close()


@functools.cache
def loop_class(task: str) -> type[Loop]:
    """The library's trainer of a task, with `Loop` before it in the method resolution order."""
    return type("TaskLoop", (Loop, TASKS[task].trainer_class()), {})
