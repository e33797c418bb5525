"""Predictions of a model file on images. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.training import torch_device
from visionloop.training.trainers import Prediction, PredictionSettings
from visionloop.training.trainers.transformers.inference import detect
from visionloop.training.trainers.transformers.model import load


class TransformersPredictor:
    """A loaded model.

    Attributes:
        classes: Class names by index.
        task: Our name of its task.
    """

    def __init__(self, checkpoint: Path, device: str | None = None) -> None:
        """Loads a ``TrainingResult.best``.

        Raises:
            InvalidReceipt: If the file is not a model of this trainer's.
        """
        self._about, model = load(checkpoint)
        self.classes, self.task = tuple(self._about.classes), self._about.task
        self._device = torch_device(device)
        self._model = model.to(self._device)

    def predict(
        self,
        images: Iterable[NDArray[np.uint8]],
        settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it can't change
    ) -> Iterator[list[Prediction]]:
        """Yields what each image shows, in their order, the most confident first.

        Args:
            images: Height × width × 3 each, in RGB.
            settings: What is asked for.

        Raises:
            OutOfMemory: If the GPU's memory is used up.
            SickMachine: If the GPU is lost.
        """
        for pixels in images:
            with translated(1, self._about.imgsz), torch.no_grad():
                predictions = self._objects(pixels, settings.confidence)
            yield predictions

    def _objects(self, pixels: NDArray[np.uint8], confidence: float) -> list[Prediction]:
        """Detections in pixels of the picture."""
        side = self._about.imgsz
        fitted, across, down = pictures.fitted(pixels, side)
        inputs = torch.from_numpy(pictures.padded(fitted, side).transpose(2, 0, 1)[None].copy())
        size = (fitted.shape[1], fitted.shape[0])
        (each,) = detect(self._model, inputs, [size], self._device, most=self._about.max_det)
        limits = np.tile([pixels.shape[1], pixels.shape[0]], 2)
        boxes = (each["boxes"] / np.tile([across, down], 2)).clip(0, limits)
        return [
            Prediction(int(label), float(score), (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
            for label, score, box in zip(each["labels"], each["scores"], boxes, strict=True)
            if score >= confidence
        ]
