"""The operating point: the least confidence of each class from which on a detection counts, where the model is used.

It is chosen on val from the cost of a miss and of a false alarm: of each class the confidence at which missed objects and wrong detections
cost least together. Detections are matched with true objects by their boxes, from an overlap of 0.5 on; of a whole image the likeliest
class counts, as a wrong one a false alarm of its class and a miss of the true one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy
from numpy.typing import NDArray

from visionloop.components.convert.converted import Converted
from visionloop.components.evaluate.costs import Costs
from visionloop.components.evaluate.truth import Compared, Truth
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import structs
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.data.decoding import decode
from visionloop.data.images import ImageCache
from visionloop.training.trainers import Prediction, PredictionSettings, Trainer

OUTPUT = "operating_point"

#: The split that it is chosen on.
SPLIT = "val"

#: The confidence of each class where none is chosen.
DEFAULT = PredictionSettings.confidence

#: The confidences among which one is chosen.
THRESHOLDS = numpy.arange(1, 100) / 100

#: Costs that differ by less are equal.
TOLERANCE = 1e-9

Array = NDArray[Any]


class AtPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a class has on val at its confidence: true objects, missed ones and false alarms; of whole images, images."""

    objects: int
    missed: int
    false_alarms: int


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """``operating_point.json``.

    Attributes:
        source: ``val`` where it was chosen there, ``default`` where each class has ``DEFAULT``.
        confidence: The least confidence by class name.
        not_chosen: Where val was looked at, the reason for each class that has ``DEFAULT`` all the same.
        costs: What it was chosen by; None where it was not.
        images: The images of val that it was chosen on.
        classes: What each class has there, by name.
        curves: The cost of each class at each of ``THRESHOLDS``, by name.
    """

    schema: int = 1
    source: Literal["val", "default"]
    confidence: dict[str, float]
    not_chosen: dict[str, str] = {}
    costs: dict[str, Any] | None = None
    images: int = 0
    classes: dict[str, AtPoint] = {}
    curves: dict[str, list[float]] = {}

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))

    @property
    def digest(self) -> str | None:
        """What tells it from another point of the same model: a digest of its confidences; None where each is ``DEFAULT``."""
        chosen = {name: value for name, value in self.confidence.items() if value != DEFAULT}
        return sha256(canonical(chosen)) if chosen else None


def default_point(classes: Sequence[str]) -> OperatingPoint:
    """The point of a model for which none was chosen."""
    return OperatingPoint(source="default", confidence=dict.fromkeys(classes, DEFAULT))


def read(result: Result) -> OperatingPoint | None:
    """Reads the point of an evaluate receipt; None for one that is older than operating points. Raises InvalidReceipt."""
    if OUTPUT not in result.receipt.outputs:
        return None
    try:
        return structs.decode(result.read(OUTPUT), OperatingPoint)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{result.uri}: operating_point.json is not one ({error}); evaluate again.") from error


def choose(
    costs: Costs,
    trainer: Trainer,
    checkpoint: Path,
    classes: Sequence[str],
    snapshot: Snapshot,
    converted: Converted,
    view: Path,
    alive: Callable[[], None],
) -> OperatingPoint:
    """Chooses the point of a model on val.

    Args:
        costs: What a miss and a false alarm cost.
        trainer: The model's trainer.
        checkpoint: The model.
        classes: Its own class names.
        snapshot: The snapshot that it was trained on.
        converted: The same, converted.
        view: The folder to view val in.
        alive: Called for each image, as a sign of life.

    Raises:
        InvalidConfig: If a cost names a class that the model does not have.
    """
    costs.check_classes(classes)
    converted.view(snapshot, view, ImageCache.of_environment(), (SPLIT,), lambda *_: alive(), label_files=False)
    entries = [entry for entry in converted.index() if entry.split == SPLIT]
    truth = Truth(snapshot.annotations, classes, [entry.file_name for entry in entries])
    tally = Tally(classes)
    pictures = (decode((view / entry.path).read_bytes()) for entry in entries)
    asked = PredictionSettings(confidence=float(THRESHOLDS[0]))
    predictor = trainer.predictor(checkpoint)
    for entry, predicted in zip(entries, predictor.predict(pictures, asked), strict=True):
        tally.add(truth.of(entry.file_name), predicted, truth.compare(entry.file_name, predicted))
        alive()
    return tally.point(costs)


class Tally:
    """Right and wrong predictions of a split by class and confidence, added image by image."""

    def __init__(self, classes: Sequence[str]) -> None:
        """``classes`` are the model's own names."""
        self.classes, self.images = tuple(classes), 0
        self._objects = numpy.zeros(len(self.classes), int)
        self._right = numpy.zeros((len(self.classes), len(THRESHOLDS)), int)
        self._wrong = numpy.zeros_like(self._right)

    def add(self, truth: Sequence[Prediction], predicted: Sequence[Prediction], compared: Compared) -> None:
        """Adds an image: its true objects, its predictions, and which of these are right and wrong."""
        self.images += 1
        for entry in truth[:1] if truth and truth[0].box is None else truth:
            self._objects[entry.class_index] += 1
        for counts, indices in ((self._right, compared.right), (self._wrong, compared.wrong)):
            for index in indices:
                # A prediction counts at each confidence that it reaches.
                entry = predicted[index]
                counts[entry.class_index, : numpy.searchsorted(THRESHOLDS, entry.confidence, side="right")] += 1

    def point(self, costs: Costs) -> OperatingPoint:
        """The confidences at which the costs are least; of a class without a true object the default, told with the reason."""
        confidence, not_chosen, at_point, curves = {}, {}, {}, {}
        for index, name in enumerate(self.classes):
            objects = int(self._objects[index])
            if not objects:
                confidence[name] = DEFAULT
                not_chosen[name] = f"the split {SPLIT} has no object of this class"
                continue
            missed, wrong = objects - self._right[index], self._wrong[index]
            cost = costs.of(name)
            curve = cost.miss * missed + cost.false_alarm * wrong
            chosen = cheapest(curve)
            confidence[name], curves[name] = float(THRESHOLDS[chosen]), [float(value) for value in curve]
            at_point[name] = AtPoint(objects=objects, missed=int(missed[chosen]), false_alarms=int(wrong[chosen]))
        return OperatingPoint(
            source="val" if at_point else "default",
            confidence=confidence,
            not_chosen=not_chosen,
            costs=costs.content(),
            images=self.images,
            classes=at_point,
            curves=curves,
        )


def cheapest(curve: Array) -> int:
    """The place of the least cost: of several the middle of the longest run, which is farthest from where the costs rise."""
    least = numpy.flatnonzero(curve <= curve.min() + TOLERANCE * max(1.0, float(curve.min())))
    runs = numpy.split(least, numpy.flatnonzero(numpy.diff(least) > 1) + 1)
    longest = max(runs, key=len)
    return int(longest[(len(longest) - 1) // 2])


def described(confidence: Mapping[str, float]) -> str:
    """Confidences in a few words: one number where all classes have it, else the range."""
    values = sorted(set(confidence.values()))
    if not values:
        return f"{DEFAULT:g}"
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}, by class"
