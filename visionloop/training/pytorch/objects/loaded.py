"""A detector's model file, measured and asked, whatever library it is from. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionloop.data.view import read_crowds
from visionloop.training.labels import paths_in
from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.pytorch import exporting
from visionloop.training.pytorch.loaded import LoadedModel
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.dataset import LabelledImages
from visionloop.training.pytorch.objects.detector import Detector, as_inputs
from visionloop.training.pytorch.objects.measuring import mask_in_picture, measured
from visionloop.training.pytorch.prediction import outlines
from visionloop.training.trainers import Evaluation, Exported, Prediction, PredictionSettings


class LoadedDetector(LoadedModel[Detector]):
    """A detector on its device."""

    def __init__(self, about: Detector, model: nn.Module, config: Mapping[str, Any]) -> None:
        """Of the settings ``batch``, ``conf`` (0.001) and ``device`` are used; raises as `LoadedModel`."""
        super().__init__(about.task, about, model, config)
        self.keypoints = tuple(about.keypoint_names)

    def measure(self, dataset: Path, split: str, on_batch: Callable[[int, int], None]) -> Evaluation:
        """Measures on ``images/{split}/…`` with ``labels/{split}/…``."""
        about = self.about
        samples = LabelledImages(dataset, split, about.task, about.imgsz, len(about.keypoint_names))
        measurement = measured(
            about,
            self.model,
            samples,
            device=self.device,
            confidence=float(self.config.get("conf", LEAST_CONFIDENCE)),
            split=split,
            batch=self.batch,
            workers=0,
            on_batch=on_batch,
            crowds={str(dataset / path): regions for path, regions in read_crowds(dataset).items()},
        )
        return replace(measurement.evaluation(), files=paths_in(dataset, samples.files))

    def exported(self, folder: Path, format: str) -> Exported:
        """Writes the model in a format of `exporting.FORMATS`, for pictures in the upper left corner of a grey square."""
        graph, side = self.about.graph(self.model), self.imgsz
        if graph is None:
            return super().exported(folder, format)
        how = exporting.preprocessing_of(side, resize="longer", round="up", place="corner", fill=pictures.GREY)
        return exporting.exported(graph, side, how, _prepared(side), folder, _located(side), format)

    @torch.no_grad()
    def see(self, pixels: NDArray[np.uint8], settings: PredictionSettings) -> list[Prediction]:
        """The objects of a picture."""
        side, (height, width) = self.imgsz, pixels.shape[:2]
        fitted, across, down = pictures.fitted(pixels, side)
        square = torch.from_numpy(pictures.padded(fitted, side).transpose(2, 0, 1)[None].copy())
        (detections,) = self.about.find(self.model, as_inputs(square, self.device))
        detections = detections.scaled(1 / across, 1 / down).inside((width, height))
        detections = detections.only(detections.scores >= settings.confidence)
        shown, objects = detections.cut((width, height)), []
        for row in np.argsort(-detections.scores, kind="stable"):
            more: dict[str, Any] = {}
            if detections.masks is not None:
                region = mask_in_picture(detections.masks[row], detections.boxes[row], width, height)
                more |= outlines(*region, (width, height), settings)
            if shown.keypoints is not None:
                points = map(tuple, shown.keypoints[row].tolist())
                more["keypoints"] = dict(zip(self.about.keypoint_names, points, strict=True))
            left, top, right, bottom = map(float, shown.boxes[row])
            objects.append(
                Prediction(
                    int(detections.classes[row]), float(detections.scores[row]), (left, top, right, bottom), **more
                )
            )
        return objects


def _prepared(side: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Makes the input of a picture, as `LoadedDetector.see` does."""

    def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        square = pictures.padded(pictures.fitted(pixels, side)[0], side)
        return square.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)

    return prepared


def _located(side: int) -> exporting.Located:
    """Takes boxes of the input to the picture, as `LoadedDetector.see` does."""

    def located(boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        height, width = size
        across, down = pictures.scaled(width, height, side)
        return boxes * np.array([width / across, height / down] * 2, np.float32)

    return located
