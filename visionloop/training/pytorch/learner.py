"""A library's model with its data, as the loop trains it. Importing this module imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.memory import check_memory
from visionloop.training.pytorch.models import Description
from visionloop.training.pytorch.ranks import this_process
from visionloop.training.pytorch.training import loading_workers
from visionloop.training.trainers import Listener, TrainingJob


class Samples(Protocol):
    """The images of a split with what is known of them, as a dataset of torch.

    Attributes:
        files: The images.
    """

    files: list[str]

    @property
    def labelled(self) -> bool:
        """Whether there is ground truth to measure with."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Any:
        """An image as the model takes it."""


About = TypeVar("About", bound=Description)
Images = TypeVar("Images", bound=Samples)


class LibraryLearner(ABC, Generic[About, Images]):
    """What the loop trains; the protocol is `visionloop.training.pytorch.loop.Learner`.

    Attributes:
        about: What model files say of the model.
        samples: The images of train.
        validation: Those of val.
    """

    def __init__(
        self, job: TrainingJob, device: torch.device, listener: Listener, about: About, model: nn.Module
    ) -> None:
        """Puts the model, with the weights that it starts from, onto its device, and lists and reports the images.

        Raises:
            InvalidConfig: If the model certainly does not fit into the GPU's memory.
            InvalidDataset: If a split has no image, or is not laid out as it should be.
        """
        member = this_process()
        check_memory(
            model,
            device,
            job.config,
            trained=True,
            averaged=bool(job.config.get("model_ema")) and member.rank == 0,
            batch=job.batch // member.world,
        )
        self.job, self.device, self.about, self.model = job, device, about, model.to(device)
        self.samples, self.validation = self.images("train"), self.images("val")
        listener.images("train", self.samples.files)
        listener.images("val", self.validation.files)
        self.measures = self.validation.labelled
        self.workers, self.pinned = loading_workers(job), device.type == "cuda"
        self.train = TrainingBatches(
            self.samples,  # type: ignore[arg-type]
            images=len(self.samples),
            effective=int(job.config["batch"]),
            batch=job.batch,
            seed=int(job.config.get("seed", 0)),
            workers=self.workers,
            pinned=self.pinned,
            collate=self.collation(),
        )
        self.validation_batches = -(-len(self.validation) // job.batch)

    @property
    def chance(self) -> float | None:
        """The loss of a model that knows nothing; None where it depends on the images."""
        return None

    @abstractmethod
    def images(self, split: str) -> Images:
        """The images of ``train``, augmented by the settings, or of ``val``, as they are."""

    def collation(self) -> Callable[[Sequence[Any]], Any] | None:
        """What makes a batch of samples; None is torch's own way."""
        return None

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The parts of the loss of a batch by name, each the mean over its images; the model is in training mode."""

    @abstractmethod
    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Metrics of a model on val."""

    def description(self) -> dict[str, Any]:
        """What a model file says of the model."""
        return self.about.as_json()
