"""Evaluation of a model file on one split of a dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionloop.data.annotations.crowds import Crowd
from visionloop.data.view import read_crowds
from visionloop.training.labels import paths_in
from visionloop.training.measurement import LEAST_CONFIDENCE, OBJECT_METRICS
from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.pytorch.device import resolve_device
from visionloop.training.trainers import Evaluation
from visionloop.training.trainers.ultralytics import checkpoint as files
from visionloop.training.trainers.ultralytics.dataset import Description, data_argument
from visionloop.training.trainers.ultralytics.failures import translated
from visionloop.training.trainers.ultralytics.progress import val_metrics
from visionloop.training.trainers.ultralytics.tasks import TASKS, LibraryMeasure, task_of_library


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
        dataset: Folder with ``images/{split}/…`` and ``labels/{split}/…``, or ``{split}/{class}/…``.
        split: ``train``, ``val`` or ``test``.
        config: Settings; ``imgsz``, ``batch``, ``conf`` (0.001), ``iou`` (0.7), ``max_det`` and ``device`` are used.
        work: A writable folder.
        on_batch: Called with the number of batches done and the total.

    Returns:
        Metrics over all classes and by class, or the reason where the split has no object of a class, or none at all; the
        counts of the confusion matrix at a confidence of at least 0.25; the model's own classes; how a part of the split is measured again. Right and wrong detections have a confidence of at least ``conf``.

    Raises:
        InvalidDataset: If the split has no image.
        InvalidReceipt: If the model can't be loaded.
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost.
    """
    from visionloop.training.trainers.ultralytics.validation import ClassValidation, validation_class

    batch, imgsz = int(config.get("batch", 16)), int(config.get("imgsz", 640))
    with translated(batch, imgsz):
        device = resolve_device(config.get("device"))
        loaded = files.load_model(checkpoint)
        task = task_of_library(loaded.task)
        classes = files.class_names(loaded.model)
        work.mkdir(parents=True, exist_ok=True)
        description = Description(task, classes, len(files.keypoint_names(loaded.model)))
        data = data_argument(dataset, description, (split,), work)
        validator = validation_class(task)(
            on_batch,
            save_dir=work / "evaluation",
            args={
                "task": loaded.task,
                "mode": "val",
                "model": str(checkpoint),
                "data": str(data),
                "split": split,
                "batch": batch,
                "imgsz": imgsz,
                "conf": float(config.get("conf", LEAST_CONFIDENCE)),
                "iou": float(config.get("iou", 0.7)),
                "max_det": int(config.get("max_det", 300)),
                "single_cls": bool(config.get("single_cls", False)),
                "device": device.name,
                "workers": 0,
                "rect": True,
                "plots": True,  # or no confusion is counted; `Validation` draws none
                "verbose": False,
            },
        )
        if isinstance(validator, ClassValidation):
            validator.measurement = ImageMeasurement(classes, split)
        else:
            validator.crowds = {
                f"{dataset.absolute()}/{path}": [Crowd(None, crowd.box) for crowd in crowds]
                if len(classes) == 1
                else crowds
                for path, crowds in read_crowds(dataset).items()
            }
        results = validator(model=loaded.model)
    measured = val_metrics(results)
    if isinstance(validator, ClassValidation):
        # The library's own figures, which differ in single precision's last digits.
        evaluation = replace(validator.measurement.evaluation(), metrics=measured)
    else:
        evaluation = _of_objects(validator, measured, TASKS[task].measures, classes, split)
    return replace(
        evaluation,
        classes=classes,
        files=paths_in(dataset, validator.image_files),
        confusion=[[int(count) for count in row] for row in validator.confusion_matrix.matrix],
    )


def _of_objects(
    validator: Any,
    measured: Mapping[str, float],
    measures: Sequence[LibraryMeasure],
    classes: Sequence[str],
    split: str,
) -> Evaluation:
    """What was measured of objects, over all and by class."""
    names = [measure.prefix + name for measure in measures for name in OBJECT_METRICS]
    per_class = {
        classes[index]: dict(zip(names, map(float, validator.metrics.class_result(row)), strict=True))
        for row, index in enumerate(validator.metrics.ap_class_index)
    }
    # Without an object the library says 0, which would be a result.
    unlabelled = {} if per_class else dict.fromkeys(measured, f"the split {split} has no labelled object")
    absent = dict.fromkeys(names, f"the split {split} has no object of this class")
    curves = validator.matches[measures[-1].prefix].class_curves()
    return Evaluation(
        metrics={} if unlabelled else measured,
        per_class=per_class,
        not_measured=unlabelled,
        not_measured_per_class={name: absent for name in classes if name not in per_class},
        images=validator.seen,
        right=validator.right,
        wrong=validator.wrong,
        resampled=validator.resampled,
        curves={classes[index]: of_class for index, of_class in curves.items()},
    )
