"""Evaluation of a model file on one split of a dataset folder. Importing this module imports torch and timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.training import torch_device
from visionloop.training.trainers import Evaluation
from visionloop.training.trainers.timm.dataset import ClassFolders
from visionloop.training.trainers.timm.environment import recognised
from visionloop.training.trainers.timm.model import load


@torch.no_grad()
def evaluate(
    checkpoint: Path, dataset: Path, split: str, config: Mapping[str, Any], on_batch: Callable[[int, int], None]
) -> Evaluation:
    """Evaluates a model file.

    Args:
        checkpoint: A ``TrainingResult.best``.
        dataset: Folder with ``{split}/{class}/…``.
        split: ``train``, ``val`` or ``test``.
        config: Settings; ``batch`` and ``device`` are used.
        on_batch: Called with the number of batches done and the total.

    Raises:
        InvalidDataset: If the split has no image.
        InvalidReceipt: If the model can't be loaded.
        OutOfMemory: If the GPU's memory is used up.
        SickMachine: If the GPU is lost.
    """
    batch = int(config.get("batch", 16))
    description, model = load(checkpoint)
    with translated(batch, description.imgsz, recognised):
        device = torch_device(config.get("device"))
        model.to(device)
        samples = ClassFolders(dataset / split, len(description.classes), description.transform())
        loader = DataLoader(samples, batch_size=batch)
        measurement = ImageMeasurement(description.classes, split)
        for done, (images, labels) in enumerate(loader, 1):
            scores = model(images.to(device)).float().softmax(1)
            measurement.add(scores.cpu().numpy(), labels.numpy())
            on_batch(done, len(loader))
    return measurement.evaluation()
