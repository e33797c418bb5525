"""Predictions of a model file on images. Importing this module imports torch and timm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.training import torch_device
from visionloop.training.trainers import Prediction, PredictionSettings
from visionloop.training.trainers.timm.model import load


class TimmPredictor:
    """A loaded classifier.

    Attributes:
        classes: Class names by index.
        task: Our name of its task.
    """

    task = "classification"

    def __init__(self, checkpoint: Path, device: str | None = None) -> None:
        """Loads a ``TrainingResult.best``.

        Raises:
            InvalidReceipt: If the file is not a model of timm's.
        """
        self._about, model = load(checkpoint)
        self.classes = tuple(self._about.classes)
        self._device, self._transform = torch_device(device), self._about.transform()
        self._model = model.to(self._device)

    def predict(
        self,
        images: Iterable[NDArray[np.uint8]],
        settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it can't change
    ) -> Iterator[list[Prediction]]:
        """Yields the likeliest classes of each image, in the images' order.

        Args:
            images: Height × width × 3 each, in RGB.
            settings: What is asked for.

        Raises:
            OutOfMemory: If the GPU's memory is used up.
            SickMachine: If the GPU is lost.
        """
        for pixels in images:
            with translated(1, self._about.imgsz), torch.no_grad():
                inputs = self._transform(Image.fromarray(pixels))[None].to(self._device)
                scores = self._model(inputs)[0].float().softmax(0).cpu().numpy()
            best = np.argsort(-scores, kind="stable")[: settings.classes]
            yield [Prediction(int(index), float(scores[index])) for index in best]
