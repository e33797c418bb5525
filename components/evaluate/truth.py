"""What is true of a split's images, and which predictions on them are right: at an overlap of 0.5 of boxes, of the true class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionloop.components.evaluate.crowds import crowds_of
from visionloop.components.evaluate.matching import box_of, match
from visionloop.data.annotations.crowds import Crowd, lies_in
from visionloop.data.annotations.images import Annotation, Box, Image, images
from visionloop.data.annotations.labels import class_index, class_order, keypoint_names
from visionloop.data.annotations.presence import KEPT, outcomes
from visionloop.data.annotations.tables import Annotations, column, named
from visionloop.training.trainers import Prediction

#: The class of a model that was trained on all classes as one (``single_cls``).
ONE_CLASS = "item"


@dataclass(frozen=True)
class Compared:
    """The predictions on an image: the indices of the missed objects, and of the right and wrong predictions.

    What lies in a crowd region and matches nothing is in neither list, and nor are the less likely classes of a whole image.
    """

    missed: Sequence[int]
    right: Sequence[int]
    wrong: Sequence[int]


class Truth:
    """The true objects of some images, or their classes."""

    def __init__(self, dataset: Annotations, classes: Sequence[str], names: Sequence[str]) -> None:
        """``classes`` are the model's own, ``names`` the images' file names."""
        self.whole_images = dataset.task == "classification"
        positions = model_positions(class_order(dataset), classes)
        index = {class_id: positions[position] for class_id, position in class_index(dataset).items()}
        points = keypoint_names(dataset) or ()
        self._objects: dict[str, tuple[Prediction, ...]] = {}
        self._crowds: dict[str, tuple[Image, list[Crowd]]] = {}
        # Of a million images only those that are looked at become objects.
        for image in images(dataset, np.flatnonzero(named(dataset.images["file_name"], names))):
            self._objects[image.file_name] = tuple(
                truth
                for annotation in image.annotations
                if not annotation.iscrowd
                and (position := index[annotation.class_id]) is not None
                and (truth := true_object(position, annotation, image, dataset.task, points)) is not None
            )
            if crowds := crowds_of(image, index):
                self._crowds[image.file_name] = image, crowds

    def of(self, file_name: str) -> tuple[Prediction, ...]:
        """The true objects of an image."""
        return self._objects[file_name]

    def compare(self, file_name: str, predicted: Sequence[Prediction]) -> Compared:
        """Compares an image's predictions with what is true, the most confident first."""
        truth = self._objects[file_name]
        if self.whole_images:
            right = bool(truth and predicted) and truth[0].class_index == predicted[0].class_index
            first = [0][: len(predicted)]
            return Compared([], first, []) if right else Compared([0][: len(truth)], [], first)
        missed, unmatched = match(truth, predicted)
        aside = self.in_crowds(file_name, predicted)
        right_ones = [index for index in range(len(predicted)) if index not in unmatched]
        return Compared(missed, right_ones, [index for index in unmatched if index not in aside])

    def in_crowds(self, file_name: str, predicted: Sequence[Prediction]) -> set[int]:
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


def model_classes(dataset: Annotations, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of a model that is trained on a dataset with these settings."""
    return (ONE_CLASS,) if str(config.get("single_cls", "")).lower() in ("true", "1") else class_order(dataset)


def model_positions(dataset: Sequence[str], model: Sequence[str]) -> list[int | None]:
    """The index in the model's classes of each of the dataset's; None for one that the model does not have."""
    if tuple(dataset) == tuple(model):
        return list(range(len(dataset)))
    if len(model) == 1 and model[0] not in dataset:
        return [0] * len(dataset)  # trained on all classes as one
    index = {name: position for position, name in enumerate(model)}
    return [index.get(name) for name in dataset]


def objects_by_class(dataset: Annotations, names: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """The number of labels of some images, by the model's own class names; of whole images, of images.

    Args:
        dataset: The dataset.
        names: The images' file names.
        classes: The model's own class names.
    """
    wanted = named(dataset.images["file_name"], names)
    kept = (outcomes(dataset).reasons == KEPT) & wanted[column(dataset.objects, "image")]
    positions = model_positions(class_order(dataset), classes)
    of_class = {class_id: positions[position] for class_id, position in class_index(dataset).items()}
    counts: Counter[int | None] = Counter()
    for class_id, number in Counter(column(dataset.objects, "class_id")[kept].tolist()).items():
        counts[of_class[class_id]] += number
    return {name: counts[position] for position, name in enumerate(classes)}


def true_object(
    position: int, annotation: Annotation, image: Image, task: str, points: Sequence[str]
) -> Prediction | None:
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
