"""How good a model is by the outputs of its graph: COCO's average precision of boxes, or the share of images whose likeliest class is true.

The model itself and its export are measured by the same rules from the same inputs, so that a difference is the export's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.components.evaluate.coco import CocoMeasurement
from visionloop.components.evaluate.scenes import Scene
from visionloop.components.evaluate.shapes import shape_of
from visionloop.components.export.comparison import overlaps
from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.trainers import Exported, Prediction, Rows

#: The metrics, by whether the model is about whole images.
WHOLE, BOXES = "accuracy_top1", "mAP50-95"

#: What is looked at before suppression, and left after it, the most confident first; two boxes of a class that overlap by more are one object.
CANDIDATES, MOST, SAME = 1000, 300, 0.7


class Quality:
    """The measurement of one model, image after image."""

    def __init__(self, exported: Exported, classes: Sequence[str]) -> None:
        """Starts without an image; ``classes`` are the model's own."""
        self._exported, self._classes = exported, classes
        self._coco = CocoMeasurement(classes, "bbox")
        self._right: list[bool] = []
        self._objects = 0

    def add(self, rows: Rows, scene: Scene, size: tuple[int, int]) -> None:
        """Adds an image of this height and width."""
        if rows.boxes is None:
            if scene.truth:
                self._right.append(int(rows.scores.argmax()) == scene.truth[0].class_index)
            return
        self._objects += len(scene.truth)
        found = detected(rows, self._exported, size)
        self._coco.add(scene, found, [shape_of(entry, "bbox", scene.picture) for entry in found])

    def value(self) -> float | None:
        """The metric; None where nothing is true of the images."""
        if self._right:
            return float(np.mean(self._right))
        return self._coco.stats()[0] if self._objects else None


def detected(rows: Rows, exported: Exported, size: tuple[int, int]) -> list[Prediction]:
    """The objects that outputs show in a picture of this height and width, the most confident first."""
    if rows.boxes is None or exported.located is None:
        return []
    order = np.argsort(-rows.scores, axis=None, kind="stable")[:CANDIDATES]
    order = order[rows.scores.reshape(-1)[order] >= LEAST_CONFIDENCE]
    numbers, classes = np.unravel_index(order, rows.scores.shape)
    boxes = np.asarray(rows.boxes[numbers], np.float64)
    kept = np.arange(len(order)) if exported.suppressed else _suppressed(boxes, classes)
    kept = kept[:MOST]
    located = exported.located(boxes[kept], size)
    height, width = size
    located = np.clip(located, 0, [width, height, width, height])
    scores = rows.scores.reshape(-1)[order[kept]]
    return [
        Prediction(int(index), float(score), (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
        for index, score, box in zip(classes[kept], scores, located, strict=True)
    ]


def _suppressed(boxes: NDArray[np.float64], classes: NDArray[Any]) -> NDArray[np.int64]:
    """The places of those that no more confident box of their class hides."""
    kept: list[int] = []
    left = np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if not left[place]:
            continue
        kept.append(place)
        if len(kept) == MOST:
            break
        left &= (classes != classes[place]) | (overlaps(boxes[place], boxes) <= SAME)
    return np.array(kept, np.int64)
