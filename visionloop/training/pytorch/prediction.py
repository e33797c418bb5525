"""Predictions of a model, image after image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.data.annotations import masks
from visionloop.training.pytorch.failures import Further, nothing_further, translated
from visionloop.training.trainers import Prediction, PredictionSettings

#: A pixel belongs to an object where its mask is at least this, between 0 and 1.
SET = 0.5


class ImagePredictor(ABC):
    """A loaded model that sees one image at a time; the protocol is `visionloop.training.trainers.Predictor`.

    Attributes:
        task: Our name of its task.
        classes: Class names by index.
        imgsz: Side of its square input in pixels.
        keypoints: The names of its keypoints in their order; empty for another task than pose.
    """

    keypoints: tuple[str, ...] = ()

    def __init__(self, task: str, classes: Sequence[str], imgsz: int, further: Further = nothing_further) -> None:
        """``further`` recognises what the library itself raises."""
        self.task, self.classes, self.imgsz, self._further = task, tuple(classes), imgsz, further

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
            with translated(1, self.imgsz, self._further):
                predictions = self.see(pixels, settings)
            yield predictions

    @abstractmethod
    def see(self, pixels: NDArray[np.uint8], settings: PredictionSettings) -> list[Prediction]:
        """What one image shows, the most confident first."""


def likeliest(scores: NDArray[Any], settings: PredictionSettings) -> list[Prediction]:
    """The likeliest classes of a whole image, by the score of each class; of equally likely ones the first comes first."""
    best = np.argsort(-scores, kind="stable")[: settings.classes]
    return [Prediction(int(index), float(scores[index])) for index in best]


def outlines(
    region: NDArray[np.bool_], left: int, top: int, size: tuple[int, int], settings: PredictionSettings
) -> dict[str, Any]:
    """The fields of a prediction that a mask gives: its outlines, and the mask itself if that is asked for.

    Args:
        region: A part of the picture, outside of which nothing is set; one without pixels gives no field.
        left: Its first column in the picture.
        top: Its first row in the picture.
        size: Width and height of the picture.
        settings: What is asked for.
    """
    if not region.size:
        return {}
    polygons, holes = masks.outlined(region, left, top)
    code = masks.compressed(region, left, top, size[1], size[0]) if settings.masks else None
    return {"polygons": polygons, "holes": holes, "mask": code}
