"""A library's model with its data, as the loop trains it. Importing this module imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.models import Description
from visionloop.training.pytorch.training import loading_workers
from visionloop.training.trainers import Listener, TrainingJob


class Samples(Protocol):
    """The images of a split with what is known of them: a dataset of torch."""

    files: list[Path]

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Any:
        """An image as the model takes it."""


About = TypeVar("About", bound=Description)
Images = TypeVar("Images", bound=Samples)


class LibraryLearner(ABC, Generic[About, Images]):
    """What the loop trains; the protocol is `visionloop.training.pytorch.loop.Learner`."""

    measures = True

    def __init__(
        self,
        job: TrainingJob,
        device: torch.device,
        listener: Listener,
        about: About,
        model: nn.Module,
        samples: Images,
        validation: Images,
        collate: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        """Puts the model onto its device, and reports the images.

        Args:
            job: The training's inputs.
            device: Where it trains.
            listener: Is told of the images.
            about: What model files will say of the model.
            model: With the weights that it starts from.
            samples: The images of train.
            validation: Those of val.
            collate: Makes a batch of samples; None is torch's own way.
        """
        self.job, self.device, self.about, self.model = job, device, about, model.to(device)
        self.samples, self.validation = samples, validation
        self.workers, self.pinned = loading_workers(job), device.type == "cuda"
        listener.images("train", samples.files)
        listener.images("val", validation.files)
        self.train = TrainingBatches(
            samples,  # type: ignore[arg-type]
            images=len(samples),
            effective=int(job.config["batch"]),
            batch=job.batch,
            seed=int(job.config.get("seed", 0)),
            workers=self.workers,
            pinned=self.pinned,
            collate=collate,
        )
        self.validation_batches = -(-len(validation) // job.batch)

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The parts of the loss of a batch by name, each the mean over its images; the model is in training mode."""

    @abstractmethod
    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Metrics of a model on val."""

    def description(self) -> dict[str, Any]:
        """What a model file says of the model."""
        return self.about.as_json()
