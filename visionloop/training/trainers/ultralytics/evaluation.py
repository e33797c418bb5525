"""Evaluation of a model file on one split of a dataset folder."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visionloop.training.trainers import Evaluation
from visionloop.training.trainers.ultralytics import checkpoint as files
from visionloop.training.trainers.ultralytics.dataset import write_data_file
from visionloop.training.trainers.ultralytics.environment import library, plotting
from visionloop.training.trainers.ultralytics.failures import translated
from visionloop.training.trainers.ultralytics.progress import val_metrics
from visionloop.training.trainers.ultralytics.session import resolve_device

#: Least confidence of a detection that the confusion matrix counts, as in the library's predictions.
CONFUSION_CONFIDENCE = 0.25

#: The names of what the library gives for one class, in its order.
CLASS_METRICS = ("precision", "recall", "mAP50", "mAP50-95")


def evaluate(
    checkpoint: Path,
    dataset: Path,
    split: str,
    config: Mapping[str, Any],
    work: Path,
    on_batch: Callable[[int, int], None],
) -> Evaluation:
    """Evaluates a model file.

    Args:
        checkpoint: A ``TrainingResult.best``.
        dataset: Folder with ``images/{split}/…`` and ``labels/{split}/…``.
        split: ``train``, ``val`` or ``test``.
        config: Settings; ``imgsz``, ``batch``, ``conf`` (0.001), ``iou`` (0.7), ``max_det`` and ``device`` are used.
        work: A writable folder; plots are written there.
        on_batch: Called with the batches done and their number.

    Returns:
        Metrics over all classes and by class (classes without an object in the split have none), and the counts of the
        confusion matrix at a confidence of at least 0.25. Right and wrong detections are of all confidences from ``conf``.

    Raises:
        InvalidDataset: If the split has no image.
        InvalidReceipt: If the model can't be loaded.
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost.
    """
    library()
    batch, imgsz = int(config.get("batch", 16)), int(config.get("imgsz", 640))
    with translated(batch, imgsz), plotting():
        loaded = files.load_model(checkpoint)
        classes = tuple(loaded.names[index] for index in range(len(loaded.names)))
        work.mkdir(parents=True, exist_ok=True)
        data = write_data_file(dataset, classes, (split,), work)
        validator = _validator_class()(
            on_batch,
            save_dir=work / "evaluation",
            args={
                "task": "detect",
                "mode": "val",
                "model": str(checkpoint),
                "data": str(data),
                "split": split,
                "batch": batch,
                "imgsz": imgsz,
                "conf": float(config.get("conf", 0.001)),
                "iou": float(config.get("iou", 0.7)),
                "max_det": int(config.get("max_det", 300)),
                "single_cls": bool(config.get("single_cls", False)),
                "device": resolve_device(config.get("device")),
                "workers": 0,
                "rect": True,
                "plots": True,
                "verbose": False,
            },
        )
        results = validator(model=loaded.model)
    return Evaluation(
        metrics=val_metrics(results),
        per_class={
            classes[index]: dict(zip(CLASS_METRICS, map(float, validator.metrics.class_result(row)), strict=True))
            for row, index in enumerate(validator.metrics.ap_class_index)
        },
        images=validator.seen,
        confusion=[[int(count) for count in row] for row in validator.confusion_matrix.matrix],
        plots=sorted((work / "evaluation").glob("*.png")),
        right=validator.right,
        wrong=validator.wrong,
    )


@functools.cache
def _validator_class() -> Any:
    base = library().models.yolo.detect.DetectionValidator

    class Validation(base):  # type: ignore[misc,valid-type]
        def __init__(self, on_batch: Callable[[int, int], None], **arguments: Any) -> None:
            super().__init__(**arguments)
            # A split may have tens of millions of detections: eight bytes for each.
            self.right, self.wrong = array("d"), array("d")
            self.callbacks.clear()  # no integration's
            self.callbacks["on_val_batch_end"] = [
                lambda validator: on_batch(validator.batch_i + 1, len(validator.dataloader))
            ]

        def init_metrics(self, model: Any) -> None:
            super().init_metrics(model)
            count = self.confusion_matrix.process_batch
            threshold = max(self.args.conf, CONFUSION_CONFIDENCE)
            self.confusion_matrix.process_batch = lambda found, true, conf: count(found, true, conf=threshold)

        def get_stats(self) -> Any:
            """Keeps what was right, of which the library's own metrics hold no more than curves."""
            for right, confidence in zip(self.metrics.stats["tp"], self.metrics.stats["conf"], strict=True):
                at_half = right[:, 0].astype(bool)  # the first of the library's thresholds is an IoU of 0.5
                self.right.extend(confidence[at_half])
                self.wrong.extend(confidence[~at_half])
            return super().get_stats()

        def plot_val_samples(self, *_: Any) -> None:
            """Pictures of batches are drawn in threads that outlive the call."""

        def plot_predictions(self, *_: Any) -> None:
            """As above."""

    return Validation
