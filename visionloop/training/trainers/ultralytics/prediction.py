"""Detections of a model file on images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import Undecodable, decode
from visionloop.training.trainers import Detection
from visionloop.training.trainers.ultralytics import checkpoint as files
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.failures import translated
from visionloop.training.trainers.ultralytics.session import resolve_device


class DetectionPredictor:
    """A loaded detector.

    Attributes:
        classes: Class names by index.
    """

    def __init__(self, checkpoint: Path, device: str | None = None) -> None:
        """Loads a ``TrainingResult.best``.

        Raises:
            InvalidReceipt: If the library can't load the file as a model.
        """
        library()
        self._model = files.load_model(checkpoint)
        self._device = resolve_device(device).name
        self.classes = tuple(self._model.names[index] for index in range(len(self._model.names)))

    def predict(self, images: Sequence[Path], confidence: float = 0.25) -> Iterator[list[Detection]]:
        """Yields the detections of each image in order, the most confident first.

        Raises:
            InvalidDataset: If an image is missing or can't be read.
        """
        for image in images:
            # One at a time: in a list, the library skips what it can't read.
            try:
                pixels = decode(image.read_bytes(), "BGR")
            except (OSError, Undecodable) as error:
                problem = error.strerror if isinstance(error, OSError) else f"it is {error}"
                raise InvalidDataset(
                    f"{image}: the image can't be read, because {problem}; replace it, or leave it out."
                ) from error
            with translated(1, int(self._model.overrides.get("imgsz", 640))):
                result = self._model.predict(pixels, conf=confidence, device=self._device, save=False, verbose=False)[0]
            boxes = result.boxes.cpu()
            yield [
                Detection(int(index), float(score), (float(x1), float(y1), float(x2), float(y2)))
                for index, score, (x1, y1, x2, y2) in zip(
                    boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True
                )
            ]
