"""Predictions of a model file on images. Importing this module imports torch and torchvision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.data.annotations import masks
from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.training import torch_device
from visionloop.training.trainers import Prediction, PredictionSettings
from visionloop.training.trainers.torchvision.inference import detect, outlined
from visionloop.training.trainers.torchvision.model import load

#: The least confidence of a detection that a model computes at all.
LEAST = 0.001


class TorchvisionPredictor:
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
        self._about, model = load(checkpoint, LEAST)
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
        side = self._about.imgsz
        for pixels in images:
            with translated(1, side), torch.no_grad():
                fitted, across, down = pictures.fitted(pixels, side)
                inputs = torch.from_numpy(pictures.padded(fitted, side).transpose(2, 0, 1)[None].copy())
                (found,) = detect(self._model, inputs, [(fitted.shape[1], fitted.shape[0])], self._device)
            yield self._objects(found, pixels.shape[1], pixels.shape[0], (across, down), settings)

    def _objects(
        self,
        found: dict[str, NDArray[Any]],
        width: int,
        height: int,
        scale: tuple[float, float],
        asked: PredictionSettings,
    ) -> list[Prediction]:
        """Detections in pixels of the picture."""
        boxes = (found["boxes"] / np.tile(scale, 2)).clip(0, np.tile([width, height], 2))
        objects = []
        for row in np.argsort(-found["scores"], kind="stable"):
            if found["scores"][row] < asked.confidence:
                break
            values: dict[str, Any] = {}
            if "masks" in found:
                values |= _outlines(found["masks"][row], boxes[row], width, height, masked=asked.masks)
            if "keypoints" in found:
                points = (found["keypoints"][row] / np.array([*scale, 1.0])).clip(0, [width, height, 1])
                values["keypoints"] = dict(zip(self._names(), map(tuple, points.tolist()), strict=True))
            left, top, right, bottom = map(float, boxes[row])
            index = int(found["labels"][row]) - self._about.background
            objects.append(Prediction(index, float(found["scores"][row]), (left, top, right, bottom), **values))
        return objects

    def _names(self) -> list[str]:
        """The keypoints' names; their numbers where two are equal."""
        names = list(self._about.keypoints)
        return names if len(set(names)) == len(names) else list(map(str, range(len(names))))


def _outlines(
    mask: NDArray[np.float32], box: NDArray[np.float32], width: int, height: int, *, masked: bool
) -> dict[str, Any]:
    """An object's outlines in a picture, and its mask if that is asked for."""
    region, left, top = outlined(mask, box, width, height)
    if not region.size:
        return {}
    polygons, holes = masks.outlined(region, left, top)
    code = masks.compressed(region, left, top, height, width) if masked else None
    return {"polygons": polygons, "holes": holes, "mask": code}
