"""What a registered model answers: for each image a list of objects or classes, as plain values."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from visionloop.training.trainers import Prediction, PredictionSettings, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The parameters of a prediction, with their defaults.
CONFIDENCE, MASKS = "confidence", "masks"


class InvalidParameter(ValueError):
    """A parameter of a prediction that has no meaning; the text says which, and what it takes."""


def settings(params: Mapping[str, Any]) -> PredictionSettings:
    """What a prediction's parameters ask for.

    Args:
        params: ``confidence`` from 0 to 1 (0.25), and ``masks`` (false).

    Raises:
        InvalidParameter: If one is out of its range.
    """
    confidence = float(params.get(CONFIDENCE, PredictionSettings.confidence))
    if not (math.isfinite(confidence) and 0 <= confidence <= 1):
        raise InvalidParameter(f"confidence is {confidence:g}; give a number from 0 to 1.")
    return PredictionSettings(confidence=confidence, masks=bool(params.get(MASKS, PredictionSettings.masks)))


def described(
    predictor: Predictor, images: Iterable[NDArray[np.uint8]], asked: PredictionSettings
) -> list[list[dict[str, Any]]]:
    """What each image shows.

    Returns:
        For each image a list of dicts with ``class``, ``class_index``, ``confidence`` and, where the model finds them: ``box``
        [x1, y1, x2, y2], ``polygons`` and ``holes`` (each x1, y1, x2, y2 …), ``mask`` (COCO's compressed run-length code, with its
        ``size``, height and width) and ``keypoints`` (x, y and confidence by name); all in pixels.
    """
    return [entries for _, entries in answers(predictor, images, asked)]


def answers(
    predictor: Predictor, images: Iterable[NDArray[np.uint8]], asked: PredictionSettings
) -> Iterator[tuple[tuple[int, int], list[dict[str, Any]]]]:
    """Yields each image's height and width, and what it shows as ``described`` has it."""
    shapes: deque[tuple[int, int]] = deque()

    def measured() -> Iterator[NDArray[np.uint8]]:
        for pixels in images:
            shapes.append((pixels.shape[0], pixels.shape[1]))
            yield pixels

    for predictions in predictor.predict(measured(), asked):
        shape = shapes.popleft()
        yield shape, [_entry(prediction, predictor.classes, shape) for prediction in predictions]


def _entry(prediction: Prediction, classes: tuple[str, ...], shape: tuple[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "class": classes[prediction.class_index],
        "class_index": prediction.class_index,
        "confidence": prediction.confidence,
    }
    if prediction.box is not None:
        entry["box"] = list(prediction.box)
    if prediction.polygons:
        entry["polygons"] = [list(polygon) for polygon in prediction.polygons]
        entry["holes"] = [list(hole) for hole in prediction.holes]
    if prediction.mask is not None:
        entry["mask"] = {"size": list(shape), "counts": prediction.mask}
    if prediction.keypoints:
        entry["keypoints"] = {name: list(point) for name, point in prediction.keypoints.items()}
    return entry
