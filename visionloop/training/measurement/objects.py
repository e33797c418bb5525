"""The measurement of detection, segmentation and pose: detections against the true objects of a split's images."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy
from numpy.typing import NDArray

from visionloop.data.annotations.crowds import Crowd, lies_in
from visionloop.training.measurement import OBJECT_METRICS, overlaps
from visionloop.training.measurement.matches import THRESHOLDS, Matches, resampled
from visionloop.training.trainers import Evaluation

Array = NDArray[Any]

#: The confidence and the overlap of boxes above which the confusion matrix counts a detection, and pairs it with an object.
CONFUSION_CONFIDENCE = 0.25
CONFUSION_OVERLAP = 0.45


def _none() -> Array:
    return numpy.zeros((0, 0, 0))


@dataclass(frozen=True)
class Objects:
    """The N true objects of an image.

    Attributes:
        classes: N class indices.
        boxes: N × 4: x1, y1, x2, y2 in pixels.
        masks: N × H × W truth values, where masks are measured.
        keypoints: N × K × 3, where keypoints are measured: x, y in pixels, and visibility, 0 where one is not labelled.
    """

    classes: Array
    boxes: Array
    masks: Array = field(default_factory=_none)
    keypoints: Array = field(default_factory=_none)


@dataclass(frozen=True)
class Detections:
    """The D detections in an image, in any order.

    Attributes:
        classes: D class indices.
        confidence: D numbers from 0 to 1.
        boxes: D × 4: x1, y1, x2, y2 in pixels.
        masks: D × H × W truth values, where masks are measured.
        keypoints: D × K × 2 or more, where keypoints are measured: x, y in pixels first.
    """

    classes: Array
    confidence: Array
    boxes: Array
    masks: Array = field(default_factory=_none)
    keypoints: Array = field(default_factory=_none)


@dataclass(frozen=True)
class Measure:
    """One way in which detections are compared with objects.

    Attributes:
        prefix: What the names of its metrics begin with.
        compared: The attribute of detections and objects that it compares.
        overlaps: The overlap of N objects with D detections, N × D, from 0 to 1.
    """

    prefix: str
    compared: str
    overlaps: Callable[[Objects, Detections], Array]


def _boxes(objects: Objects, detections: Detections) -> Array:
    return overlaps.of_boxes(objects.boxes, detections.boxes)


def _masks(objects: Objects, detections: Detections) -> Array:
    return overlaps.of_masks(objects.masks, detections.masks)


def _keypoints(objects: Objects, detections: Detections) -> Array:
    return overlaps.of_keypoints(objects.keypoints, objects.boxes, detections.keypoints)


BOXES = Measure("", "boxes", _boxes)
MASKS = Measure("mask_", "masks", _masks)
KEYPOINTS = Measure("pose_", "keypoints", _keypoints)

#: How the objects of a task are compared, boxes first, and the measure that the task is about last.
MEASURES = {"detection": (BOXES,), "segmentation": (BOXES, MASKS), "pose": (BOXES, KEYPOINTS)}


class ObjectMeasurement:
    """What was found in the images of a split, image after image.

    A split may have tens of millions of detections: of each its class, confidence and matches are kept, some ten bytes.

    Attributes:
        confusion: (C + 1) × (C + 1) counts, rows predicted, columns true, the last of each the background.
    """

    def __init__(self, classes: Sequence[str], measures: Sequence[Measure], split: str) -> None:
        """Starts without an image.

        Args:
            classes: Class names by index.
            measures: A row of `MEASURES`.
            split: The split's name, which the reasons for what is not measured name.
        """
        self.classes, self.measures, self.split = tuple(classes), tuple(measures), split
        self.confusion = numpy.zeros((len(self.classes) + 1, len(self.classes) + 1), int)
        self._detections, self._objects = array("i"), array("i")  # their numbers by image
        self._true, self._predicted, self._confidence = array("i"), array("i"), array("f")
        self._right = {measure.prefix: array("H") for measure in self.measures}

    def add(
        self,
        detections: Detections,
        objects: Objects,
        crowds: Sequence[Crowd] = (),
        size: tuple[int, int] | None = None,
    ) -> None:
        """Adds an image. A detection that matches nothing and lies in a crowd region is passed over.

        Args:
            detections: Everything that the model found, down to a low confidence.
            objects: The true objects.
            crowds: The image's crowd regions. A model of one class takes each for its own.
            size: The image's width and height in pixels, needed with crowd regions.

        Raises:
            ValueError: If a class is not one of the measurement's, or an object or detection lacks what is compared.
        """
        self._check("object", objects)
        self._check("detection", detections)
        confidence = detections.confidence.astype(numpy.float32)
        order = numpy.argsort(-confidence, kind="stable")
        confidence, predicted, true = confidence[order], detections.classes[order], objects.classes
        compared = {
            measure.prefix: measure.overlaps(objects, detections)[:, order]
            if len(true) and len(order)
            else numpy.zeros((len(true), len(order)), numpy.float32)
            for measure in self.measures
        }
        right = {prefix: matched(shared, true, predicted) for prefix, shared in compared.items()}
        if crowds:
            if size is None:
                raise ValueError("crowd regions without the size of the image")
            aside = _in_crowds(
                [Crowd(None, crowd.box) for crowd in crowds] if len(self.classes) == 1 else crowds,
                predicted,
                detections.boxes[order] / (size * 2),
            )
            kept = numpy.any(list(right.values()), axis=0) | ~aside
            confidence, predicted = confidence[kept], predicted[kept]
            compared[""] = compared[""][:, kept]
            right = {prefix: bits[kept] for prefix, bits in right.items()}
        self._detections.append(len(predicted))
        self._objects.append(len(true))
        _extend(self._true, true)
        _extend(self._predicted, predicted)
        _extend(self._confidence, confidence)
        for prefix, bits in right.items():
            _extend(self._right[prefix], bits)
        counted = confidence > CONFUSION_CONFIDENCE
        self._confuse(compared[""][:, counted], true, predicted[counted])

    def metrics(self) -> dict[str, float]:
        """Every metric by name, over all classes with a true object; empty without one."""
        return _means(self._per_class(self._matches()))

    def evaluation(self) -> Evaluation:
        """Everything that is measured; right and wrong, and the curves, by the last measure."""
        matches = self._matches()
        per_class = {self.classes[index]: values for index, values in self._per_class(matches).items()}
        names = [measure.prefix + name for measure in self.measures for name in OBJECT_METRICS]
        unlabelled = dict.fromkeys(names, f"the split {self.split} has no labelled object")
        absent = dict.fromkeys(names, f"the split {self.split} has no object of this class")
        last = self.measures[-1].prefix
        confidence, right = numpy.array(self._confidence), numpy.array(self._right[last]) & 1 > 0
        return Evaluation(
            metrics=_means(per_class),
            per_class=per_class,
            images=len(self._objects),
            confusion=self.confusion.tolist(),
            right=_extend(array("f"), confidence[right]),
            wrong=_extend(array("f"), confidence[~right]),
            not_measured={} if per_class else unlabelled,
            not_measured_per_class={name: absent for name in self.classes if name not in per_class},
            classes=self.classes,
            resampled=partial(resampled, matches),
            curves={self.classes[index]: curves for index, curves in matches[last].class_curves().items()},
        )

    def _check(self, what: str, rows: Objects | Detections) -> None:
        """Refuses what would be measured as something else."""
        outside = (rows.classes < 0) | (rows.classes >= len(self.classes))
        if outside.any():
            raise ValueError(f"{what} of class {rows.classes[outside][0]}, of {len(self.classes)} classes")
        for measure in self.measures:
            number = len(getattr(rows, measure.compared))
            if number != len(rows.classes):
                raise ValueError(f"{len(rows.classes)} of the kind {what} with {number} {measure.compared}")

    def _confuse(self, shared: Array, true: Array, predicted: Array) -> None:
        """Counts an image in the confusion matrix, from the overlaps of boxes, N × D, the most confident detection first."""
        background = len(self.classes)
        partner: dict[int, int] = {}
        paired: set[int] = set()
        for detection, object_ in falling(shared, shared > CONFUSION_OVERLAP):
            if detection not in paired and object_ not in partner:
                partner[object_] = int(predicted[detection])
                paired.add(detection)
        for object_, index in enumerate(true.tolist()):
            self.confusion[partner.get(object_, background), index] += 1
        for detection, index in enumerate(predicted.tolist()):
            if detection not in paired:
                self.confusion[index, background] += 1

    def _matches(self) -> dict[str, Matches]:
        """The matches by the prefix of their metrics' names."""
        return {
            prefix: Matches(
                *map(
                    numpy.array, (self._detections, self._confidence, self._predicted, right, self._objects, self._true)
                )
            )
            for prefix, right in self._right.items()
        }

    @staticmethod
    def _per_class(matches: Mapping[str, Matches]) -> dict[int, dict[str, float]]:
        """Every metric by name, by class index; each measure has the same classes."""
        per_class: dict[int, dict[str, float]] = {}
        for prefix, measured in matches.items():
            for index, values in measured.per_class().items():
                per_class.setdefault(index, {}).update({prefix + name: value for name, value in values.items()})
        return per_class


def matched(shared: Array, true: Array, predicted: Array) -> Array:
    """The matches of an image's detections, as `visionloop.training.measurement.matches.packed` gives them.

    At each of `THRESHOLDS`, one detection after another is matched with the object of its class that it overlaps most, of those that
    are not matched yet and that it overlaps by the threshold at least. So the Ultralytics library and COCO do it.

    Args:
        shared: The overlaps of N objects with D detections, N × D, the most confident detection first.
        true: N class indices.
        predicted: D class indices.

    Returns:
        D whole numbers with a bit for each threshold, the lowest for the first.
    """
    right, taken = [0] * len(predicted), [0] * len(true)
    reached = (1 << numpy.searchsorted(THRESHOLDS, shared, side="right")) - 1
    for detection, object_ in falling(shared, (shared >= THRESHOLDS[0]) & (true[:, None] == predicted)):
        gained = int(reached[object_, detection]) & ~taken[object_] & ~right[detection]
        taken[object_] |= gained
        right[detection] |= gained
    return numpy.array(right, numpy.uint16)


def falling(shared: Array, possible: Array) -> Iterator[tuple[int, int]]:
    """The possible pairs of a detection and an object: one detection after another, and of each the largest overlap first.

    Args:
        shared: The overlaps of N objects with D detections, N × D.
        possible: Which pairs are possible, N × D.
    """
    detection, object_ = numpy.nonzero(possible.T)
    order = numpy.lexsort((-shared[object_, detection], detection))
    return zip(detection[order].tolist(), object_[order].tolist(), strict=True)


def _in_crowds(crowds: Sequence[Crowd], predicted: Array, boxes: Array) -> Array:
    """Whether each of D detections lies in a crowd region; boxes are D × 4 in shares of the image's width and height."""
    rows = zip(predicted.tolist(), boxes.clip(0, 1).tolist(), strict=True)
    return numpy.array([lies_in(crowds, index, tuple(box)) for index, box in rows], bool)


def _extend(column: array[Any], values: Array) -> array[Any]:
    """Appends numbers of any type in the column's own."""
    column.frombytes(values.astype(column.typecode).tobytes())
    return column


def _means(per_class: Mapping[Any, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the classes."""
    rows = list(per_class.values())
    return {name: float(numpy.mean([values[name] for values in rows])) for name in (rows[0] if rows else ())}
