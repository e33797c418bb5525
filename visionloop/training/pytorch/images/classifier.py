"""An image classifier, trained, measured and asked, whatever library it is from. Importing this module imports torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from visionloop.training.labels import paths_in
from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.pytorch import exporting
from visionloop.training.pytorch.failures import Further, nothing_further
from visionloop.training.pytorch.images.dataset import ClassFolders
from visionloop.training.pytorch.learner import LibraryLearner
from visionloop.training.pytorch.loaded import LoadedModel
from visionloop.training.pytorch.loading import Loader
from visionloop.training.pytorch.loop import batches_of
from visionloop.training.pytorch.models import Description
from visionloop.training.pytorch.prediction import likeliest
from visionloop.training.trainers import Evaluation, Exported, Prediction, PredictionSettings

#: Makes a model's input, 3 × side × side, of a picture.
Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Classifier(Description, ABC):
    """What a model file says of a classifier."""

    @abstractmethod
    def transform(self) -> Transform:
        """How a picture is prepared for validation and prediction."""

    def preprocessing(self) -> Mapping[str, Any]:
        """The same as `exporting.preprocessing_of` says it; empty where its fields can't."""
        return {}

    def scores(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The logits of inputs, N × C: their softmax is the probability of each class."""
        outputs: Tensor = model(inputs)
        return outputs.float()


About = TypeVar("About", bound=Classifier)


class ClassifierLearner(LibraryLearner[About, ClassFolders]):
    """A library's own class builds the model, and may have other augmentation and another loss."""

    @property
    def chance(self) -> float:
        """The cross entropy where each class is as likely."""
        return math.log(len(self.about.classes))

    def images(self, split: str) -> ClassFolders:
        """The images of ``train``, augmented by the settings, or of ``val``, as they are."""
        transform = self.augmented() if split == "train" else self.about.transform()
        return ClassFolders(self.job.dataset / split, len(self.job.classes), transform)

    def augmented(self) -> Transform:
        """How a picture is prepared for training."""
        return self.about.transform()

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The cross entropy."""
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        return {"loss": nn.functional.cross_entropy(self.about.scores(self.model, images), labels)}

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The accuracies and the loss on val."""
        measurement, total = ImageMeasurement(self.about.classes, "val"), 0.0
        loader = Loader(self.validation, self.job.batch, workers=self.workers, pinned=self.pinned)
        for images, labels in batches_of(loader, on_batch):
            scores = self.about.scores(model, images.to(self.device))
            total += float(nn.functional.cross_entropy(scores, labels.to(self.device), reduction="sum"))
            measurement.add(scores.softmax(1).cpu().numpy(), labels.numpy())
        return {**measurement.metrics(), "val_loss": total / len(measurement.true)}


class LoadedClassifier(LoadedModel[Classifier]):
    """A classifier on its device."""

    def __init__(
        self, about: Classifier, model: nn.Module, config: Mapping[str, Any], further: Further = nothing_further
    ) -> None:
        """Of the settings ``batch`` and ``device`` are used; raises as `LoadedModel`."""
        super().__init__("classification", about, model, config, further)
        self._transform = about.transform()

    def measure(self, dataset: Path, split: str, on_batch: Callable[[int, int], None]) -> Evaluation:
        """Measures on ``{split}/{class}/…``."""
        samples = ClassFolders(dataset / split, len(self.classes), self._transform)
        loader, measurement = Loader(samples, self.batch), ImageMeasurement(self.classes, split)
        for done, (images, labels) in enumerate(loader, 1):
            scores = self.about.scores(self.model, images.to(self.device)).softmax(1)
            measurement.add(scores.cpu().numpy(), labels.numpy())
            on_batch(done, len(loader))
        return replace(measurement.evaluation(), files=paths_in(dataset, samples.files))

    def exported(self, folder: Path, format: str) -> Exported:
        """Writes the model in a format of `exporting.FORMATS`; its output is the probability of each class."""

        def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(self._transform(Image.fromarray(pixels))[None].numpy(), np.float32)

        described = self.about.preprocessing() or {"size": [self.imgsz, self.imgsz]}
        graph = exporting.classifying(self.about.scores, self.model)
        return exporting.exported(graph, self.imgsz, described, prepared, folder, format=format)

    @torch.no_grad()
    def see(self, pixels: NDArray[np.uint8], settings: PredictionSettings) -> list[Prediction]:
        """The likeliest classes of a picture."""
        inputs = self._transform(Image.fromarray(pixels))[None].to(self.device)
        return likeliest(self.about.scores(self.model, inputs)[0].softmax(0).cpu().numpy(), settings)
