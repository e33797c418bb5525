"""Predictions on the images of a split, for COCO's figures, the kinds of mistakes and the pictures of the report."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionloop.components.evaluate.coco import CocoMeasurement
from visionloop.components.evaluate.kinds import Judged, Kinds, dominating
from visionloop.components.evaluate.scenes import Scene, scenes_of
from visionloop.components.evaluate.shapes import compared_by, overlaps, shape_of
from visionloop.data.annotations.crowds import SHARE
from visionloop.data.annotations.tables import Annotations
from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.trainers import Prediction, PredictionSettings

#: The number of images that are predicted on, the first by file name; the trainer's own metrics cover all.
LIMIT = 2000

#: Pictures in the report: this many of the first images, as many of those with the most mistakes where these have no kinds, and fewer
#: of each kind.
PICTURES = 6
PICTURES_OF_A_KIND = 3


@dataclass(frozen=True)
class Example:
    """An image with its true objects and the predictions on it, each with the indices of those that don't match.

    Of a whole image's classes only the likeliest one counts: the others of ``predicted`` stand in neither list, and ``kinds`` (each
    with its number, the most frequent first) are empty.
    """

    file_name: str
    path: Path
    truth: tuple[Prediction, ...]
    predicted: tuple[Prediction, ...]
    missed: tuple[int, ...]
    wrong: tuple[int, ...]
    kinds: tuple[tuple[str, int], ...] = ()


class Examples:
    """The examples of a split, added image by image; keeps only those that the report shows."""

    def __init__(self, dataset: Annotations, classes: Sequence[str], names: Sequence[str]) -> None:
        """``dataset`` has the true objects, ``classes`` are the model's own, ``names`` are the images that will be added."""
        self.first: list[Example] = []
        self.images = 0
        self.kinds = Kinds()
        self._by = compared_by(dataset.task)
        self.coco = CocoMeasurement(classes, self._by)
        self._worst: dict[str, list[tuple[float, str, Example]]] = {}
        self._whole_images = dataset.task == "classification"
        self._scenes = scenes_of(dataset, classes, names, self._by)
        self._truth = {name: scene.truth for name, scene in self._scenes.items()}

    @property
    def settings(self) -> PredictionSettings:
        """What the predictions are asked for: all that the trainer's own metrics count, too."""
        if self._whole_images:
            return PredictionSettings()
        return PredictionSettings(LEAST_CONFIDENCE, masks=self._by == "segm")

    def add(self, file_name: str, path: Path, predicted: Sequence[Prediction]) -> None:
        """Counts an image and keeps it if it is to be shown."""
        truth = self._truth[file_name]
        if self._whole_images:
            right = bool(truth and predicted) and truth[0].class_index == predicted[0].class_index
            missed, wrong = ((), ()) if right else ((0,)[: len(truth)], (0,)[: len(predicted)])
            # A confident mistake is the worse one.
            mistakes = 0.0 if right else 1 + (predicted[0].confidence if predicted else 0)
            example, kind = Example(file_name, path, truth, tuple(predicted), missed, wrong), ""
        else:
            predicted = sorted(predicted, key=lambda entry: -entry.confidence)
            judged = self._judged(self._scenes.pop(file_name), predicted)
            counts = judged.counts()
            shown = tuple(predicted[: len(judged.kinds)])
            kinds = tuple(counts.most_common())
            example = Example(file_name, path, truth, shown, judged.unmatched, judged.wrong, kinds)
            mistakes, kind = float(counts.total()), dominating(counts) or ""
        self._keep(example, kind, mistakes)

    def _judged(self, scene: Scene, predicted: Sequence[Prediction]) -> Judged:
        self.images += 1
        shapes = [shape_of(entry, self._by, scene.picture) for entry in predicted]
        self.coco.add(scene, predicted, shapes)
        shared = overlaps(shapes, scene.shapes)
        classes = [entry.class_index for entry in predicted]
        within = overlaps(shapes, [region.shape for region in scene.regions], crowds=True)
        of_class = np.array(
            [region.class_index in (None, index) for index in classes for region in scene.regions], bool
        )
        aside = ((within >= SHARE) & of_class.reshape(within.shape)).any(axis=1)
        confidence = [entry.confidence for entry in predicted]
        return self.kinds.add(classes, confidence, [entry.class_index for entry in scene.truth], shared, aside)

    def _keep(self, example: Example, kind: str, mistakes: float) -> None:
        if len(self.first) < PICTURES:
            self.first.append(example)
            return
        if not mistakes:
            return
        worst = self._worst.setdefault(kind, [])
        heapq.heappush(worst, (mistakes, example.file_name, example))
        if len(worst) > (PICTURES_OF_A_KIND if kind else PICTURES):
            heapq.heappop(worst)

    @property
    def worst(self) -> dict[str, list[Example]]:
        """Of the other images those with the most mistakes, the most first, by their most frequent kind; ``""`` where there are no kinds."""
        return {kind: [example for _, _, example in sorted(kept, reverse=True)] for kind, kept in self._worst.items()}
