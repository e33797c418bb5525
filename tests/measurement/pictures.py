"""Pictures with random objects, and detections near them and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visionloop.data.annotations.crowds import Crowd
from visionloop.training.measurement.objects import MEASURES, Detections, ObjectMeasurement, Objects

CLASSES = ("ant", "bee", "cow", "dog", "eel")
SIZE = 32


@dataclass(frozen=True)
class Picture:
    """An image's detections, the most confident first, its objects and its crowd regions."""

    detections: Detections
    objects: Objects
    crowds: tuple[Crowd, ...] = ()


def picture(generator: np.random.Generator, *, keypoints: int = 3, crowds: bool = False, ties: bool = True) -> Picture:
    """Random objects of three classes, and detections of four near them and elsewhere, with many ties; each may be empty."""
    objects = int(generator.integers(0, 7))
    start = generator.integers(0, SIZE - 12, (objects, 2))
    boxes = np.hstack([start, start + generator.integers(4, 12, (objects, 2))])
    classes = generator.integers(0, 3, objects)
    near = generator.integers(0, objects, int(generator.integers(0, 12))) if objects else np.zeros(0, int)
    shifted = boxes[near] + generator.integers(-1, 2, (len(near), 4))
    other = generator.integers(0, SIZE - 8, (int(generator.integers(0, 4)), 2))
    detected = np.vstack([shifted, np.hstack([other, other + 8])]).astype(np.float32)
    result = np.concatenate([classes[near], generator.integers(0, 4, len(other))])
    wrong = generator.random(len(result)) < 0.2
    result[wrong] = generator.integers(0, 4, wrong.sum())
    points = generator.integers(0, SIZE, (objects, keypoints, 2))
    reach = 1 if keypoints == 17 else 3
    moved = points[near] + generator.integers(-reach, reach + 1, (len(near), keypoints, 2)) / 2
    moved = np.vstack([moved, generator.integers(0, SIZE, (len(other), keypoints, 2))])
    confidence = generator.integers(1, 20, len(result)) / 20 if ties else generator.random(len(result))
    return Picture(
        Detections(
            result,
            -np.sort(-confidence).astype(np.float32),
            detected,
            filled(detected),
            moved.astype(np.float32),
        ),
        Objects(
            classes,
            boxes.astype(np.float32),
            filled(boxes),
            np.concatenate([points, generator.integers(0, 3, (objects, keypoints, 1))], axis=2).astype(np.float32),
        ),
        tuple(
            Crowd(None if generator.random() < 0.3 else int(generator.integers(0, 4)), (x, y, x + 0.4, y + 0.4))
            for x, y in generator.random((int(generator.integers(0, 5)), 2)).tolist()
            if crowds
        ),
    )


def filled(boxes: Any) -> Any:
    """Masks of ellipses in boxes, N × H × W."""
    down, across = np.mgrid[:SIZE, :SIZE] + 0.5
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clip(1) / 2
    shares = [
        ((xy - c[:, None, None]) / h[:, None, None]) ** 2
        for xy, c, h in zip((across, down), middle.T, half.T, strict=True)
    ]
    return shares[0] + shares[1] <= 1


def measured(task: str, pictures: list[Picture]) -> ObjectMeasurement:
    """Our measurement of pictures."""
    measurement = ObjectMeasurement(CLASSES, MEASURES[task], "val")
    for shown in pictures:
        measurement.add(shown.detections, shown.objects, shown.crowds, (SIZE, SIZE))
    return measurement
