"""A small model that learns from numbers, for trainings in several processes; it is imported in each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from visionloop.core.errors import InvalidDataset
from visionloop.training.pytorch import ranks
from visionloop.training.pytorch.distributed import Seat
from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.ranks import this_process
from visionloop.training.pytorch.settings import OPTIMIZATION
from visionloop.training.pytorch.training import loading_workers
from visionloop.training.trainers import Listener, TrainingJob

#: The settings of a training without a moving average, whose weights are then the model's own.
SETTINGS = {name: setting.default for name, setting in OPTIMIZATION.items()} | {
    "model": "numbers",
    "epochs": 2,
    "batch": 8,
    "imgsz": 32,
    "seed": 1,
    "workers": 0,
    "device": "cpu",
    "lr0": 0.05,
    "patience": 0,
    "primary_metric": "val_loss",
    "primary_metric_mode": "min",
    "model_ema": False,
    "fails": "",
    "normalised": False,
    "dropout": 0.2,
}


class Numbers(Dataset[Any]):
    """Points in a plane, moved a little by random numbers, and their product."""

    def __init__(self, count: int) -> None:
        self.points = torch.linspace(-1, 1, 2 * count).reshape(2, count).T

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        point = self.points[index] + 0.01 * torch.randn(2)
        return point, point.prod()


class Model(nn.Module):
    """Two layers with dropout between; ``unused`` is never asked for, and ``rare`` on the first of several processes alone."""

    def __init__(self, normalised: bool, dropout: float) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(16) if normalised else nn.Identity()
        self.layers = nn.Sequential(nn.Linear(2, 16), norm, nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        self.unused, self.rare = nn.Linear(1, 1), nn.Linear(1, 1)
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, points: Tensor) -> Tensor:
        result: Tensor = self.layers(points)[:, 0]
        return result + self.rare(points[:, :1])[:, 0] if float(points.detach().sum()) > 0 else result


class Learner:
    """What the loop trains."""

    measures = True
    chance: float | None = None

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        self._job, self._device = job, device
        self.model: nn.Module = Model(bool(job.config["normalised"]), float(job.config["dropout"])).to(device)
        samples, self._val = Numbers(int(job.config.get("images", 21))), Numbers(6)
        listener.images("train", [f"{number}.png" for number in range(len(samples.points))])
        self.train = TrainingBatches(
            samples,
            images=len(samples.points),
            effective=int(job.config["batch"]),
            batch=job.batch,
            seed=int(job.config["seed"]),
            workers=loading_workers(job),
            pinned=False,
        )
        self.validation_batches = 1
        self._steps = 0

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The squared error, or what ``fails`` asks for at the second batch of rank 1."""
        self._steps += 1
        if self._steps == 2 and this_process().rank == 1:
            _fail(str(self._job.config["fails"]))
        points, products = (values.to(self._device) for values in batch)
        return {"loss": ((self.model(points) - products) ** 2).mean()}

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The squared error on val."""
        assert this_process().rank == 0
        points = self._val.points.to(self._device)
        on_batch(1)
        return {"val_loss": float(((model(points) - points.prod(1)) ** 2).mean())}

    def description(self) -> dict[str, Any]:
        """What a model file says of the model."""
        return {"classes": ["number"]}


#: The points of a step, of which each of two processes has one half.
SHARES = Numbers(20).points.split(10)


def add_gradients(model: nn.Module, points: Tensor) -> None:
    """Adds a share's part of the gradients of a step of both shares."""
    (((model(points) - points.prod(1)) ** 2).sum() / sum(map(len, SHARES))).backward()  # type: ignore[no-untyped-call]


def one_step(job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """What each of two processes runs: it writes the weights that it begins with, and the gradients after a step."""
    ranks.join(seat, torch.device("cpu"))
    torch.manual_seed(seat.rank)
    model = Model(normalised=False, dropout=0.0)
    ranks.broadcast_model(model)
    add_gradients(model, SHARES[seat.rank])
    ranks.sum_gradients(model.parameters())
    written = job.dataset / f"{seat.rank}.pt"
    torch.save((model.state_dict(), {name: value.grad for name, value in model.named_parameters()}), written)
    return written


def _fail(how: str) -> None:
    match how:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "data":
            raise InvalidDataset("The picture 3.png is torn; replace it.")
        case "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        case "defect":
            raise KeyError("unknown")


def job(work: Path, checkpoint: Path | None = None, batch: int | None = None, **changes: Any) -> TrainingJob:
    """A training of the small model; ``batch`` is the job's, all else is configuration."""
    config = SETTINGS | changes
    work.mkdir(parents=True)
    return TrainingJob("detection", work, ("number",), config, None, work, checkpoint, batch or config["batch"])
