"""What a registered model answers: for each image a list of objects or classes, as plain values."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visionloop.training.trainers import Prediction, PredictionSettings, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The parameters of a prediction, with their defaults.
CONFIDENCE, MASKS = "confidence", "masks"


class InvalidParameter(ValueError):
    """A parameter of a prediction that has no meaning; the text says which, and what it takes."""


def thresholds(params: Mapping[str, Any], operating_point: Mapping[str, float]) -> Mapping[str, float]:
    """The least confidence by class name: the operating point's, unless the parameters give a confidence; empty where one counts for all."""
    return operating_point if params.get(CONFIDENCE) is None else {}


def settings(params: Mapping[str, Any], least: Mapping[str, float] | None = None) -> PredictionSettings:
    """What a prediction's parameters ask for.

    Args:
        params: ``confidence`` from 0 to 1, and ``masks`` (false).
        least: What ``thresholds`` gives: without a confidence the lowest of them is asked for, 0.25 where there is none.

    Raises:
        InvalidParameter: If one is out of its range.
    """
    given = params.get(CONFIDENCE)
    confidence = float(min((least or {}).values(), default=PredictionSettings.confidence) if given is None else given)
    if not (math.isfinite(confidence) and 0 <= confidence <= 1):
        raise InvalidParameter(f"confidence is {confidence:g}; give a number from 0 to 1.")
    return PredictionSettings(confidence=confidence, masks=bool(params.get(MASKS, PredictionSettings.masks)))


def reaching(predictions: Iterable[Prediction], classes: Sequence[str], least: Mapping[str, float]) -> list[Prediction]:
    """The predictions whose confidence reaches that of their class, and those of classes without one."""
    return [entry for entry in predictions if entry.confidence >= least.get(classes[entry.class_index], 0.0)]


def described(
    predictor: Predictor,
    images: Iterable[NDArray[np.uint8]],
    asked: PredictionSettings,
    least: Mapping[str, float] | None = None,
) -> list[list[dict[str, Any]]]:
    """What each image shows.

    Args:
        predictor: The model.
        images: Height × width × 3 each, in RGB.
        asked: What is asked for.
        least: The least confidence of an object by class name; a class of a whole image is given whatever its confidence.

    Returns:
        For each image a list of dicts with ``class``, ``class_index``, ``confidence`` and, where the model finds them: ``box``
        [x1, y1, x2, y2], ``polygons`` and ``holes`` (each x1, y1, x2, y2 …), ``mask`` (COCO's compressed run-length code, with its
        ``size``, height and width) and ``keypoints`` (x, y and confidence by name); all in pixels.
    """
    return [entries for _, entries in answers(predictor, images, asked, least)]


def answers(
    predictor: Predictor,
    images: Iterable[NDArray[np.uint8]],
    asked: PredictionSettings,
    least: Mapping[str, float] | None = None,
) -> Iterator[tuple[tuple[int, int], list[dict[str, Any]]]]:
    """Yields each image's height and width, and what it shows as ``described`` has it."""
    shapes: deque[tuple[int, int]] = deque()

    def measured() -> Iterator[NDArray[np.uint8]]:
        for pixels in images:
            shapes.append((pixels.shape[0], pixels.shape[1]))
            yield pixels

    for predictions in predictor.predict(measured(), asked):
        shape = shapes.popleft()
        kept = (
            entry for entry in predictions if entry.box is None or reaching([entry], predictor.classes, least or {})
        )
        yield shape, [_entry(prediction, predictor.classes, shape) for prediction in kept]


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
