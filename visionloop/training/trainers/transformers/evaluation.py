"""Evaluation of a model file on one split of a dataset folder. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from visionloop.data.view import read_crowds
from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.objects.dataset import LabelledImages
from visionloop.training.pytorch.objects.measuring import measured
from visionloop.training.pytorch.training import torch_device
from visionloop.training.trainers import Evaluation
from visionloop.training.trainers.transformers.inference import finder
from visionloop.training.trainers.transformers.model import load


@torch.no_grad()
def evaluate(
    checkpoint: Path, dataset: Path, split: str, config: Mapping[str, Any], on_batch: Callable[[int, int], None]
) -> Evaluation:
    """Evaluates a model file.

    Args:
        checkpoint: A ``TrainingResult.best``.
        dataset: Folder with ``images/{split}/…`` and ``labels/{split}/…``.
        split: ``train``, ``val`` or ``test``.
        config: Settings; ``batch``, ``conf`` (0.001), ``max_det`` and ``device`` are used.
        on_batch: Called with the number of batches done and the total.

    Raises:
        InvalidDataset: If the split has no image.
        InvalidReceipt: If the model can't be loaded.
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost.
    """
    batch = int(config.get("batch", 16))
    description, model = load(checkpoint)
    with translated(batch, description.imgsz):
        device = torch_device(config.get("device"))
        most = int(config.get("max_det", description.max_det))
        crowds = {str(dataset / path): regions for path, regions in read_crowds(dataset).items()}
        measurement = measured(
            finder(model.to(device), device, confidence=float(config.get("conf", 0.001)), most=most),
            LabelledImages(dataset, split, description.task, description.imgsz),
            classes=description.classes,
            split=split,
            batch=batch,
            workers=0,
            on_batch=on_batch,
            crowds=crowds,
        )
    return measurement.evaluation()
