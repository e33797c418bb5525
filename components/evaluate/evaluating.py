"""The evaluation of one model on a view of a split, by its trainer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.components.convert.converted import IndexEntry
from visionloop.components.evaluate.crowds import crowds_of
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import OutOfMemory
from visionloop.core.logs import notice
from visionloop.core.stage import Context
from visionloop.data.annotations.images import images as images_of
from visionloop.data.annotations.labels import class_index, keypoint_names
from visionloop.data.annotations.tables import column
from visionloop.data.view import ImageCrowds, write_crowds
from visionloop.training.devices import first_device
from visionloop.training.measurement.tiled import measured_in_tiles
from visionloop.training.trainers import Evaluation, Trainer

#: The least confidence of a detection that counts where the model's settings say none.
LEAST_CONFIDENCE = 0.001


def evaluate(
    trainer: Trainer,
    task: str,
    classes: Sequence[str],
    checkpoint: Path,
    view: Path,
    config: Mapping[str, Any],
    work: Path,
    context: Context,
    count: int,
    split: str,
) -> Evaluation:
    """Evaluates one model, halving the batch whenever the GPU's memory runs out; each metric has a value or a reason."""
    batch = int(config.get("batch") or 1)

    def on_batch(done: int, total: int) -> None:
        context.advanced(round(count * done / max(1, total)), count)

    while True:
        # An evaluation computes on one device, even where the training had several.
        used = {**config, "batch": batch, "device": first_device(os.environ.get("DEVICE"))}
        work.mkdir(parents=True, exist_ok=True)
        try:
            evaluation = trainer.evaluate(checkpoint, view, split, used, work, on_batch)
        except OutOfMemory:
            if batch == 1:
                raise
            batch //= 2
            notice(f"evaluate: the GPU's memory ran out; trying again with batch {batch}.")
            continue
        return complete(evaluation, trainer.metrics.get(task, ()), classes)


def evaluate_in_tiles(
    trainer: Trainer,
    task: str,
    classes: Sequence[str],
    checkpoint: Path,
    tile: int,
    snapshot: Snapshot,
    view: Path,
    config: Mapping[str, Any],
    context: Context,
    split: str,
) -> Evaluation:
    """Evaluates one model by what it predicts in tiles of this side; each metric has a value or a reason."""
    evaluation = measured_in_tiles(
        trainer.predictor(checkpoint),
        tile,
        view,
        split,
        task,
        len(keypoint_names(snapshot.annotations) or ()) if task == "pose" else 0,
        float(config.get("conf") or LEAST_CONFIDENCE),
        context.advanced,
    )
    return complete(evaluation, trainer.metrics.get(task, ()), classes)


def complete(evaluation: Evaluation, names: Sequence[str], classes: Sequence[str]) -> Evaluation:
    """Leaves out values that are not finite, gives each metric without a value a reason, and the classes if none are named."""

    def reasons(values: Mapping[str, float], stated: Mapping[str, str], wanted: Sequence[str] = ()) -> dict[str, str]:
        lost = {name: "its value is not a finite number" for name, value in values.items() if not math.isfinite(value)}
        missing = {name: "the evaluation does not yield it" for name in wanted if name not in values}
        return missing | lost | dict(stated)

    measured = dict.fromkeys([*evaluation.per_class, *evaluation.not_measured_per_class])
    by_class = {
        name: reasons(evaluation.per_class.get(name, {}), evaluation.not_measured_per_class.get(name, {}))
        for name in measured
    }
    return replace(
        evaluation,
        metrics=_finite(evaluation.metrics),
        per_class={name: _finite(values) for name, values in evaluation.per_class.items()},
        not_measured=reasons(evaluation.metrics, evaluation.not_measured, names),
        not_measured_per_class={name: values for name, values in by_class.items() if values},
        classes=tuple(evaluation.classes or classes),
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def write_crowd_regions(
    snapshot: Snapshot, entries: Sequence[IndexEntry], folder: Path, positions: Sequence[int | None] | None = None
) -> None:
    """Writes where the images' crowd regions are, for trainers that pass over what is detected there.

    ``positions`` are the model's class numbers by the dataset's, where they are not the same.
    """
    annotations, paths = snapshot.annotations, {entry.file_name: entry.path for entry in entries}
    owners = column(annotations.objects, "image")[np.asarray(annotations.objects["iscrowd"])]
    rows = np.unique(owners)
    # By the dataset's own classes, which a model's are compared with before anything is measured.
    index: Mapping[int, int | None] = class_index(annotations)
    if positions is not None:
        index = {class_id: positions[number] for class_id, number in class_index(annotations).items()}
    regions = (
        ImageCrowds(paths[image.file_name], crowds)
        for image in images_of(annotations, rows)
        if image.file_name in paths and (crowds := crowds_of(image, index))
    )
    write_crowds(folder, regions)
