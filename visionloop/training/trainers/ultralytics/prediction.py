"""Predictions of a model file on images, for every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.training.pytorch.device import resolve_device
from visionloop.training.pytorch.prediction import SET, ImagePredictor, likeliest, outlines
from visionloop.training.trainers import Prediction, PredictionSettings
from visionloop.training.trainers.ultralytics import checkpoint as files
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.failures import recognised
from visionloop.training.trainers.ultralytics.tasks import task_of_library


class UltralyticsPredictor(ImagePredictor):
    """A loaded model, of any task."""

    def __init__(self, checkpoint: Path) -> None:
        """Loads a ``TrainingResult.best``.

        Raises:
            InvalidReceipt: If the library can't load the file as a model.
        """
        library()
        self._model = files.load_model(checkpoint)
        imgsz = int(self._model.overrides.get("imgsz", 640))
        super().__init__(task_of_library(self._model.task), files.class_names(self._model.model), imgsz, recognised)
        self._device = resolve_device(None).name
        self.keypoints = tuple(files.keypoint_names(self._model.model))

    def see(self, pixels: NDArray[np.uint8], settings: PredictionSettings) -> list[Prediction]:
        """The objects of a picture, or its likeliest classes."""
        # One at a time: in a list, the library skips what it can't read.
        (result,) = self._model.predict(
            np.ascontiguousarray(pixels[..., ::-1]),
            conf=settings.confidence,
            device=self._device,
            save=False,
            verbose=False,
        )
        if self.task == "classification":
            return likeliest(result.probs.data.cpu().numpy(), settings)
        return self._objects(result.cpu(), settings)

    def _objects(self, result: Any, settings: PredictionSettings) -> list[Prediction]:
        boxes, predictions = result.boxes, []
        for row, (index, score, box) in enumerate(
            zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
        ):
            values: dict[str, Any] = {}
            if result.masks is not None:
                values |= _outlined(result.masks.data[row].numpy(), box, result.orig_shape, settings)
            if result.keypoints is not None:
                values["keypoints"] = self._points(result.keypoints.data[row].tolist())
            left, top, right, bottom = box
            predictions.append(Prediction(int(index), float(score), (left, top, right, bottom), **values))
        return predictions

    def _points(self, rows: list[list[float]]) -> dict[str, tuple[float, float, float]]:
        """x, y and confidence by name; a model that measures no confidence of keypoints has 1."""
        names = self.keypoints or tuple(map(str, range(len(rows))))
        return {name: (row[0], row[1], row[2] if len(row) > 2 else 1.0) for name, row in zip(names, rows, strict=True)}


def _outlined(
    mask: NDArray[np.uint8], box: list[float], shape: tuple[int, int], settings: PredictionSettings
) -> dict[str, Any]:
    """An object's outlines, and its mask if that is asked for.

    Args:
        mask: The object in the model's input: the whole picture, shrunk and centred between borders.
        box: x1, y1, x2, y2 in the picture, outside of which nothing is set.
        shape: The picture's height and width.
        settings: What is asked for.
    """
    height, width = shape
    left, top = (int(np.floor(value)) for value in box[:2])
    right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if right <= left or bottom <= top:
        return {}
    # As the library's letterbox places a picture.
    gain = min(mask.shape[0] / height, mask.shape[1] / width)
    inner = [max(round(side * gain), 1) for side in (height, width)]
    borders = [round((side - part) / 2 - 0.1) for side, part in zip(mask.shape, inner, strict=True)]
    across, down = inner[1] / width, inner[0] / height
    # Pixel centres of the box's region, in the mask.
    to_mask = np.array(
        [
            [across, 0, (left + 0.5) * across + borders[1] - 0.5],
            [0, down, (top + 0.5) * down + borders[0] - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    region = cv2.warpAffine(mask.astype(np.float32), to_mask, (right - left, bottom - top), flags=flags) >= SET
    return outlines(region, left, top, (width, height), settings)
