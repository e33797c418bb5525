"""Predictions on the images of a split, for the counts of the slices and the pictures of the report."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionloop.components.evaluate.crowds import crowds_of
from visionloop.components.evaluate.slices import Slices, box_of
from visionloop.data.annotations.crowds import Crowd, lies_in
from visionloop.data.annotations.images import Annotation, Box, Image, images
from visionloop.data.annotations.labels import class_index, class_order, keypoint_names
from visionloop.data.annotations.tables import Annotations, named
from visionloop.training.trainers import Prediction

#: The number of images that are predicted on for slices and pictures, the first by file name; metrics cover all.
LIMIT = 2000

#: Pictures in the report: this many of the first images, and as many of those with the most mistakes.
PICTURES = 6


@dataclass(frozen=True)
class Example:
    """An image with its true objects and the predictions on it, each with the indices of those that don't match.

    Of a whole image's classes only the likeliest one counts: the others of ``predicted`` stand in neither list.
    """

    file_name: str
    path: Path
    truth: tuple[Prediction, ...]
    predicted: tuple[Prediction, ...]
    missed: tuple[int, ...]
    wrong: tuple[int, ...]


class Examples:
    """The examples of a split, added image by image; keeps only those that the report shows."""

    def __init__(self, dataset: Annotations, classes: Sequence[str], names: Sequence[str]) -> None:
        """``dataset`` has the true objects, ``classes`` are the model's own, ``names`` are the images that will be added."""
        self.slices = Slices()
        self.first: list[Example] = []
        self._worst: list[tuple[float, str, Example]] = []
        self._whole_images = dataset.task == "classification"
        positions = model_positions(class_order(dataset), classes)
        index = {class_id: positions[position] for class_id, position in class_index(dataset).items()}
        points = keypoint_names(dataset) or ()
        self._truth: dict[str, tuple[Prediction, ...]] = {}
        self._crowds: dict[str, tuple[Image, list[Crowd]]] = {}
        # Of a million images only those that are looked at become objects.
        for image in images(dataset, np.flatnonzero(named(dataset.images["file_name"], names))):
            self._truth[image.file_name] = tuple(
                truth
                for annotation in image.annotations
                if not annotation.iscrowd
                and (position := index[annotation.class_id]) is not None
                and (truth := _true(position, annotation, image, dataset.task, points)) is not None
            )
            if crowds := crowds_of(image, index):
                self._crowds[image.file_name] = image, crowds

    def add(self, file_name: str, path: Path, predicted: Sequence[Prediction]) -> None:
        """Counts an image and keeps it if it is to be shown."""
        truth = self._truth[file_name]
        if self._whole_images:
            right = bool(truth and predicted) and truth[0].class_index == predicted[0].class_index
            missed, wrong = ([], []) if right else ([0][: len(truth)], [0][: len(predicted)])
            # A confident mistake is the worse one.
            mistakes = 0.0 if right else 1 + (predicted[0].confidence if predicted else 0)
        else:
            missed, wrong = self.slices.add(truth, predicted, self._in_crowds(file_name, predicted))
            mistakes = float(len(missed) + len(wrong))
        example = Example(file_name, path, truth, tuple(predicted), tuple(missed), tuple(wrong))
        if len(self.first) < PICTURES:
            self.first.append(example)
        else:
            heapq.heappush(self._worst, (mistakes, file_name, example))
            if len(self._worst) > PICTURES:
                heapq.heappop(self._worst)

    def _in_crowds(self, file_name: str, predicted: Sequence[Prediction]) -> set[int]:
        """The indices of the predictions that lie in a crowd region."""
        if file_name not in self._crowds:
            return set()
        image, crowds = self._crowds[file_name]
        width, height = image.width or 1, image.height or 1
        aside = set()
        for number, entry in enumerate(predicted):
            left, top, right, bottom = box_of(entry)
            if lies_in(crowds, entry.class_index, (left / width, top / height, right / width, bottom / height)):
                aside.add(number)
        return aside

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


def _true(position: int, annotation: Annotation, image: Image, task: str, points: Sequence[str]) -> Prediction | None:
    """What is true of an object as far as the task is about it; None where it lacks that. Keypoints without a label are left out."""
    size = float(image.width or 0), float(image.height or 0)
    if task == "classification":
        return Prediction(position, 1.0)
    if task == "segmentation":
        if not annotation.polygons:
            return None
        x = [value for polygon in annotation.polygons for value in polygon[::2]]
        y = [value for polygon in annotation.polygons for value in polygon[1::2]]
        return Prediction(position, 1.0, _clipped((min(x), min(y), max(x), max(y)), *size), annotation.polygons)
    if annotation.bbox is None:
        return None
    left, top, across, down = annotation.bbox
    box = _clipped((left, top, left + across, top + down), *size)
    values = annotation.keypoints if task == "pose" else ()
    labelled = zip(points, values[::3], values[1::3], values[2::3], strict=False)
    return Prediction(position, 1.0, box, keypoints={name: (x, y, 1.0) for name, x, y, seen in labelled if seen})


def _clipped(box: Box, width: float, height: float) -> Box:
    """A box x1, y1, x2, y2, clipped to the image."""
    return max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
