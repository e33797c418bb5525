"""A detector in training, whatever library it is from. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from visionloop.training.pytorch.learner import LibraryLearner
from visionloop.training.pytorch.objects.dataset import LabelledImages, augmentation, collate
from visionloop.training.pytorch.objects.detector import Detector
from visionloop.training.pytorch.objects.measuring import measured
from visionloop.training.trainers import Listener, TrainingJob

About = TypeVar("About", bound=Detector)


class DetectorLearner(LibraryLearner[About, LabelledImages]):
    """A library's own class builds the model and says its losses."""

    def __init__(
        self, job: TrainingJob, device: torch.device, listener: Listener, about: About, model: nn.Module
    ) -> None:
        """Reads the labels.

        Args:
            job: The training's inputs.
            device: Where it trains.
            listener: Is told of the images.
            about: What model files will say of the model.
            model: With the weights that it starts from.

        Raises:
            InvalidDataset: If a split has no image.
        """
        side, points = about.imgsz, len(job.keypoints)
        samples = LabelledImages(job.dataset, "train", job.task, side, points, augmentation(job.config, side, job.flip))
        validation = LabelledImages(job.dataset, "val", job.task, side, points)
        super().__init__(job, device, listener, about, model, samples, validation, collate)
        self.measures = any(len(label.classes) for label in validation.labels)

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The metrics on val; none without a label."""
        measurement = measured(
            self.about,
            model,
            self.validation,
            device=self.device,
            confidence=float(self.job.config["conf"]),
            split="val",
            batch=self.job.batch,
            workers=self.workers,
            on_batch=lambda done, _: on_batch(done),
        )
        return measurement.metrics()
