"""A model measured as it predicts on large photographs: in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import InvalidConfig
from visionloop.data.decoding import decode
from visionloop.data.view import read_crowds
from visionloop.training import labels
from visionloop.training.measurement.objects import MEASURES, Detections, ObjectMeasurement, Objects
from visionloop.training.tiled import TiledPredictor
from visionloop.training.trainers import Evaluation, Prediction, PredictionSettings, Predictor

#: The tasks that are measured in tiles: of a segmentation the tiles' masks would have to be put together.
TASKS = ("detection", "pose")


def check_tiled(tile: int | None, task: str) -> None:
    """Refuses tiles of a task that is not measured in them. Raises InvalidConfig."""
    if tile is not None and task not in TASKS:
        raise InvalidConfig(f"--tile: {' and '.join(TASKS)} are measured in tiles, {task} is not; leave it out.")


def measured_in_tiles(
    predictor: Predictor,
    tile: int,
    folder: Path,
    split: str,
    task: str,
    keypoints: int,
    confidence: float,
    on_image: Callable[[int, int], None],
) -> Evaluation:
    """Measures a model on ``images/{split}/…`` with ``labels/{split}/…``, in the pixels of each picture.

    Args:
        predictor: The model.
        tile: The side of a tile in pixels.
        folder: The dataset's folder.
        split: The split.
        task: One of TASKS.
        keypoints: For pose the number of keypoints.
        confidence: The least confidence of a detection that counts.
        on_image: Called with the number of images done and the total.
    """
    files = labels.images(folder, split)
    true = labels.read(folder, split, files, task, keypoints)
    paths, crowds = labels.paths_in(folder, files), read_crowds(folder)
    measurement = ObjectMeasurement(predictor.classes, MEASURES[task], split)
    sizes: list[tuple[int, int]] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for file in files:
            pixels = decode(Path(file).read_bytes())
            sizes.append((pixels.shape[1], pixels.shape[0]))
            yield pixels

    found = TiledPredictor(predictor, tile).predict(pictures(), PredictionSettings(confidence=confidence))
    for number, (path, objects, predictions) in enumerate(zip(paths, true, found, strict=True)):
        size = sizes[number]
        measurement.add(_detections(predictions, keypoints), _objects(objects, size), crowds.get(path, ()), size)
        on_image(number + 1, len(files))
    return replace(measurement.evaluation(), files=paths)


def _detections(predictions: Sequence[Prediction], keypoints: int) -> Detections:
    more: dict[str, Any] = {}
    if keypoints:
        points = [list(one.keypoints.values()) for one in predictions]
        more["keypoints"] = np.array(points, np.float64).reshape(-1, keypoints, 3)
    return Detections(
        np.array([one.class_index for one in predictions], np.int64),
        np.array([one.confidence for one in predictions], np.float64),
        np.array([one.box for one in predictions], np.float64).reshape(-1, 4),
        **more,
    )


def _objects(true: labels.Labels, size: tuple[int, int]) -> Objects:
    boxes = true.boxes * np.tile(size, 2)
    if true.keypoints is None:
        return Objects(true.classes, boxes)
    points = true.keypoints.astype(np.float64)
    points[..., :2] *= size
    return Objects(true.classes, boxes, keypoints=points)
