"""What a training will use of its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from typing import Any

from visionloop.training.trainers import Trainer


@dataclass(frozen=True)
class Planned:
    """What a training will use of its machine.

    Attributes:
        device: The setting ``device``.
        batch: Images of a step, of all devices together.
        batch_asked: Whether it was set, rather than left at its default.
        imgsz: Side of the square input in pixels.
        epochs: Epochs that are asked for.
        workers: Processes that load images.
        images: Images of train; None if their number is not known.
        torch: Whether the trainer computes with torch.
        gpu: Whether it computes on a GPU where there is one.
    """

    device: object
    batch: int
    batch_asked: bool
    imgsz: int
    epochs: int
    workers: int
    images: int | None
    torch: bool
    gpu: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], trainer: Trainer, images: int | None, *, batch_asked: bool) -> Planned:
        """What a training with this configuration will use of so many images."""
        numbers = {name: int(config[name]) for name in ("batch", "imgsz", "epochs", "workers")}
        with_torch, gpu = computes_with_torch(trainer), bool(trainer.policy.gpus)
        return cls(
            device=config["device"], images=images, torch=with_torch, gpu=gpu, batch_asked=batch_asked, **numbers
        )


def computes_with_torch(trainer: Trainer) -> bool:
    """Whether loading a trainer's models needs torch, by its requirements."""
    try:
        return any(line.partition("==")[0].strip().lower() == "torch" for line in trainer.requirements())
    except PackageNotFoundError:  # the training says which package is missing
        return False
