"""The library's own validation, with what an evaluation needs in addition to its metrics.

Importing this module imports the library, so it is imported where an evaluation starts.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable
from typing import Any

from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.resampling import Matches
from visionloop.training.trainers.ultralytics.tasks import TASKS

BaseValidator = library().engine.validator.BaseValidator

#: Minimum confidence of a detection that the confusion matrix counts, as in the library's predictions.
CONFUSION_CONFIDENCE = 0.25


class Validation(BaseValidator):  # type: ignore[misc,valid-type]
    """Overrides the library's validation for every task; `validation_class` combines it with the validator of a task.

    Attributes:
        right: Confidences of the detections that match a true object of their class with an IoU of at least 0.5.
        wrong: Confidences of all others.
        matches: The matches themselves, from which a part of the split can be measured.
    """

    def __init__(self, on_batch: Callable[[int, int], None], **arguments: Any) -> None:
        """``on_batch`` is called with the number of batches done and the total; ``arguments`` are the library's own."""
        super().__init__(**arguments)
        # A split may have tens of millions of detections: eight bytes for each.
        self.right, self.wrong = array("d"), array("d")
        self.matches: Matches | None = None
        self.callbacks.clear()  # no integration is called
        self.callbacks["on_val_batch_end"] = [
            lambda validator: on_batch(validator.batch_i + 1, len(validator.dataloader))
        ]

    def init_metrics(self, model: Any) -> None:
        """Makes the confusion matrix count only detections with at least `CONFUSION_CONFIDENCE`."""
        super().init_metrics(model)
        count = self.confusion_matrix.process_batch
        threshold = max(self.args.conf, CONFUSION_CONFIDENCE)
        self.confusion_matrix.process_batch = lambda detections, true, conf: count(detections, true, conf=threshold)

    def get_stats(self) -> Any:
        """Keeps the confidences of right and wrong detections, of which the library's own metrics hold only curves."""
        for right, confidence in zip(self.metrics.stats["tp"], self.metrics.stats["conf"], strict=True):
            at_half = right[:, 0].astype(bool)  # the first of the library's thresholds is an IoU of 0.5
            self.right.extend(confidence[at_half])
            self.wrong.extend(confidence[~at_half])
        self.matches = Matches(self.metrics.stats)
        return super().get_stats()

    def plot_val_samples(self, *_: Any) -> None:
        """Does nothing: the library draws pictures of batches in threads that outlive the call."""

    def plot_predictions(self, *_: Any) -> None:
        """Does nothing, for the reason given in `plot_val_samples`."""


@functools.cache
def validation_class(task: str) -> type[Validation]:
    """The library's validator of a task, with `Validation` before it in the method resolution order."""
    return type("TaskValidation", (Validation, TASKS[task].validator_class()), {})
