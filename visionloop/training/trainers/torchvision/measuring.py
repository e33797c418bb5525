"""A model measured on a split. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from visionloop.data.annotations.crowds import Crowd
from visionloop.training.measurement.objects import MEASURES, ObjectMeasurement
from visionloop.training.measurement.objects import Objects as TrueObjects
from visionloop.training.trainers.torchvision import pictures
from visionloop.training.trainers.torchvision.dataset import LabelledImages, collate
from visionloop.training.trainers.torchvision.inference import SHRUNK, detect, detections
from visionloop.training.trainers.torchvision.model import Description
from visionloop.training.trainers.torchvision.pictures import Objects


def measured(
    model: nn.Module,
    description: Description,
    samples: LabelledImages,
    split: str,
    *,
    batch: int,
    workers: int,
    device: torch.device,
    on_batch: Callable[[int, int], None],
    crowds: Mapping[str, Sequence[Crowd]] | None = None,
) -> ObjectMeasurement:
    """Measures a model.

    Args:
        model: In evaluation mode, on ``device``.
        description: What it is.
        samples: The split's images.
        split: Its name.
        batch: Images at once.
        workers: Processes that load images.
        device: Where the model is.
        on_batch: Called with the number of batches done and the total.
        crowds: The crowd regions by image file.
    """
    measurement = ObjectMeasurement(description.classes, MEASURES[description.task], split)
    loader = DataLoader(samples, batch_size=batch, num_workers=workers, collate_fn=collate)
    number, side, background = 0, description.imgsz, description.background
    for done, (inputs, true, sizes) in enumerate(loader, 1):
        for found, objects, size in zip(detect(model, inputs, sizes, device), true, sizes, strict=True):
            regions = (crowds or {}).get(str(samples.files[number]), ())
            measurement.add(detections(found, background, side), _true(objects, description.task, side), regions, size)
            number += 1
        on_batch(done, len(loader))
    return measurement


def _true(objects: Objects, task: str, side: int) -> TrueObjects:
    if task == "segmentation":
        small = pictures.drawn([outline / np.float32(SHRUNK) for outline in objects.polygons], side // SHRUNK)
        return TrueObjects(objects.classes, objects.boxes, masks=small.astype(bool))
    if objects.keypoints is not None:
        return TrueObjects(objects.classes, objects.boxes, keypoints=objects.keypoints)
    return TrueObjects(objects.classes, objects.boxes)
