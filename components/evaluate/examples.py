"""Predictions on the images of a split, for the counts of the slices and the pictures of the report."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionloop.components.evaluate.slices import Slices
from visionloop.data.annotations.images import Box, images
from visionloop.data.annotations.labels import class_index, class_order
from visionloop.data.annotations.tables import Annotations
from visionloop.training.trainers import Detection

#: The number of images that are predicted on for slices and pictures, the first by file name; metrics cover all.
LIMIT = 2000

#: Pictures in the report: this many of the first images, and as many of those with the most mistakes.
PICTURES = 6


@dataclass(frozen=True)
class Example:
    """An image with its true objects and the detections on it."""

    file_name: str
    path: Path
    truth: tuple[Detection, ...]
    predicted: tuple[Detection, ...]
    mistakes: int


class Examples:
    """The examples of a split, added image by image; keeps only those that the report shows."""

    def __init__(self, dataset: Annotations, classes: Sequence[str], limit: int = LIMIT) -> None:
        """``dataset`` has the true objects, ``classes`` are the model's own."""
        self.limit = limit
        self.slices = Slices()
        self.first: list[Example] = []
        self._worst: list[tuple[int, str, Example]] = []
        positions = model_positions(class_order(dataset), classes)
        index = {class_id: positions[position] for class_id, position in class_index(dataset).items()}
        self._truth = {
            image.file_name: tuple(
                Detection(position, 1.0, _corners(annotation.bbox, image.width or 0, image.height or 0))
                for annotation in image.annotations
                if annotation.bbox is not None
                and not annotation.iscrowd
                and (position := index[annotation.class_id]) is not None
            )
            for image in images(dataset)
        }

    def add(self, file_name: str, path: Path, predicted: Sequence[Detection]) -> None:
        """Counts an image and keeps it if it is to be shown."""
        truth = self._truth[file_name]
        mistakes = self.slices.add(truth, predicted)
        example = Example(file_name, path, truth, tuple(predicted), mistakes)
        if len(self.first) < PICTURES:
            self.first.append(example)
        else:
            heapq.heappush(self._worst, (mistakes, file_name, example))
            if len(self._worst) > PICTURES:
                heapq.heappop(self._worst)

    @property
    def worst(self) -> list[Example]:
        """Those of the other images with the most mistakes, the most first."""
        return [example for mistakes, _, example in sorted(self._worst, reverse=True) if mistakes]


def model_positions(dataset: Sequence[str], model: Sequence[str]) -> list[int | None]:
    """The index in the model's classes of each of the dataset's; None for one that the model does not have."""
    if tuple(dataset) == tuple(model):
        return list(range(len(dataset)))
    if len(model) == 1:
        return [0] * len(dataset)  # trained on all classes as one
    index = {name: position for position, name in enumerate(model)}
    return [index.get(name) for name in dataset]


def _corners(box: Box, width: int, height: int) -> Box:
    """Returns a box x, y, width, height as x1, y1, x2, y2, clipped to the image."""
    return (
        max(0.0, box[0]),
        max(0.0, box[1]),
        min(float(width), box[0] + box[2]),
        min(float(height), box[1] + box[3]),
    )
