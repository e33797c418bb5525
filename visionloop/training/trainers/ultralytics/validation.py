"""The library's own validation, with what an evaluation needs in addition to its metrics.

Importing this module imports the library, so it is imported where an evaluation starts.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from visionloop.data.annotations.crowds import Crowd, lies_in
from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.measurement.matches import Matches, packed, resampled
from visionloop.training.measurement.objects import CONFUSION_CONFIDENCE
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.tasks import TASKS, LibraryMeasure

BaseValidator = library().engine.validator.BaseValidator


class Validation(BaseValidator):  # type: ignore[misc,valid-type]
    """Overrides the library's validation for every task; `validation_class` combines it with the validator of a task."""

    def __init__(self, on_batch: Callable[[int, int], None], **arguments: Any) -> None:
        """``on_batch`` is called with the number of batches done and the total; ``arguments`` are the library's own."""
        super().__init__(**arguments)
        self.callbacks.clear()  # no integration is called
        self.callbacks["on_val_batch_end"] = [
            lambda validator: on_batch(validator.batch_i + 1, len(validator.dataloader))
        ]

    @property
    def image_files(self) -> list[str]:
        """The images, in the order in which they are measured."""
        dataset = self.dataloader.dataset
        return [sample[0] for sample in dataset.samples] if hasattr(dataset, "samples") else list(dataset.im_files)

    def get_stats(self) -> Any:
        """Measures, without the library's plots: all that they show is in the page of the evaluation."""
        self.args.plots = False
        return super().get_stats()

    def plot_val_samples(self, *_: Any) -> None:
        """Does nothing: the library draws pictures of batches in threads that outlive the call."""

    def plot_predictions(self, *_: Any) -> None:
        """Does nothing, for the reason given in `plot_val_samples`."""


class ObjectValidation(Validation):
    """That of the tasks that find objects.

    Attributes:
        measures: How objects are compared, the one that the task is about last.
        matches: By a measure's prefix the matches themselves, from which a part of the split can be measured.
        crowds: The crowd regions by image file.
        right: Confidences of detections that match a true object of their class with an overlap of at least 0.5 (of boxes,
            masks or keypoints, whatever the task is about).
        wrong: Confidences of all others.
    """

    measures: tuple[LibraryMeasure, ...]

    def __init__(self, on_batch: Callable[[int, int], None], **arguments: Any) -> None:
        """The arguments are those of `Validation`."""
        super().__init__(on_batch, **arguments)
        self.matches: dict[str, Matches] = {}
        self.crowds: Mapping[str, Sequence[Crowd]] = {}
        # A split may have tens of millions of detections: eight bytes for each.
        self.right, self.wrong = array("d"), array("d")

    def init_metrics(self, model: Any) -> None:
        """Makes the confusion matrix count only detections with at least `CONFUSION_CONFIDENCE`."""
        super().init_metrics(model)
        count = self.confusion_matrix.process_batch
        threshold = max(self.args.conf, CONFUSION_CONFIDENCE)
        self.confusion_matrix.process_batch = lambda detections, true, conf: count(detections, true, conf=threshold)

    def _process_batch(self, preds: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The library's matches of an image's detections, without those that match nothing and lie in a crowd region.

        They go out of ``preds`` as well, from which the library takes what it counts.
        """
        matched: dict[str, Any] = super()._process_batch(preds, batch)
        crowds = self.crowds.get(batch["im_file"])
        if not crowds:
            return matched
        height, width = batch["ori_shape"]
        (across, down), (left, top) = batch["ratio_pad"][0][::-1], batch["ratio_pad"][1]
        boxes = preds["bboxes"].cpu().numpy().astype(float) - (left, top, left, top)
        boxes = (boxes / ((across * width, down * height) * 2)).clip(0, 1)
        aside = [
            lies_in(crowds, int(index), tuple(box))
            for index, box in zip(preds["cls"].tolist(), boxes.tolist(), strict=True)
        ]
        right = numpy.any([rows.any(axis=1) for rows in matched.values()], axis=0)
        kept = right | ~numpy.array(aside, bool)
        for name in preds:
            preds[name] = preds[name][kept.tolist()]
        return {name: rows[kept] for name, rows in matched.items()}

    def get_stats(self) -> Any:
        """Keeps the confidences of right and wrong detections, of which the library's own metrics hold only curves."""
        stats = self.metrics.stats
        for right, confidence in zip(stats[self.measures[-1].right], stats["conf"], strict=True):
            at_half = right[:, 0].astype(bool)  # the first of the library's thresholds is an overlap of 0.5
            self.right.extend(confidence[at_half])
            self.wrong.extend(confidence[~at_half])
        self.matches = {measure.prefix: matches_of(stats, measure.right) for measure in self.measures}
        return super().get_stats()

    def resampled(self, name: str, weights: NDArray[Any]) -> float | None:
        """A metric where image i counts ``weights[i]`` times; None for one that is not measured so."""
        return resampled(self.matches, name, weights)


class ClassValidation(Validation):
    """That of classification.

    Attributes:
        measurement: What every trainer measures of whole images; to be set before the validation.
    """

    measurement: ImageMeasurement

    def build_dataset(self, img_path: str) -> Any:
        """The library's dataset; a class is the position of its folder, since the folders' names are not the classes'."""
        return library().data.ClassificationDataset(img_path, self.args, augment=False, prefix=self.args.split)

    def get_dataloader(self, dataset_path: str, batch_size: int) -> Any:
        """In the dataset's order: the library shuffles here, and the images' names would not be those of what is measured."""
        dataset = self.build_dataset(dataset_path)
        return library().data.build_dataloader(dataset, batch_size, self.args.workers, shuffle=False)

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Measures a batch."""
        super().update_metrics(preds, batch)
        self.measurement.add(preds.float().cpu().numpy(), batch["cls"].cpu().numpy())


def matches_of(stats: Mapping[str, Sequence[NDArray[Any]]], name: str) -> Matches:
    """The matches of a measure.

    Args:
        stats: The library's ``DetMetrics.stats``: one array an image of conf, pred_cls, target_cls and what is right, ``name``.
        name: The library's name of what is right by the measure, D × 10 an image.
    """
    confidence, predicted, right, true = (
        numpy.concatenate(stats[column]) for column in ("conf", "pred_cls", name, "target_cls")
    )
    numbers = {column: [len(rows) for rows in stats[column]] for column in ("conf", "target_cls")}
    return Matches(numbers["conf"], confidence, predicted, packed(right), numbers["target_cls"], true)


@functools.cache
def validation_class(task: str) -> type[Validation]:
    """The library's validator of a task, with our own before it in the method resolution order."""
    row = TASKS[task]
    own = ObjectValidation if row.measures else ClassValidation
    return type("TaskValidation", (own, row.validator_class()), {"measures": row.measures})
