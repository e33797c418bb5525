"""A model measured on a split. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader

from visionloop.data.annotations.crowds import Crowd
from visionloop.training.measurement.objects import MEASURES, Detections, ObjectMeasurement
from visionloop.training.measurement.objects import Objects as TrueObjects
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.dataset import LabelledImages, collate
from visionloop.training.pytorch.objects.pictures import Objects

#: How much smaller than inputs masks are compared: as Ultralytics compares them, so that figures mean the same.
SHRUNK = 4

#: What a model finds in inputs (N × 3 × side × side bytes), given width and height of the picture in each. Boxes and keypoints are
#: in pixels of the input, masks at a quarter of its size.
Finder = Callable[[torch.Tensor, Sequence[tuple[int, int]]], list[Detections]]


def measured(
    find: Finder,
    samples: LabelledImages,
    *,
    classes: Sequence[str],
    split: str,
    batch: int,
    workers: int,
    on_batch: Callable[[int, int], None],
    crowds: Mapping[str, Sequence[Crowd]] | None = None,
) -> ObjectMeasurement:
    """Measures a model.

    Args:
        find: The model.
        samples: The split's images.
        classes: Class names by index.
        split: Its name.
        batch: Images at once.
        workers: Processes that load images.
        on_batch: Called with the number of batches done and the total.
        crowds: The crowd regions by image file.
    """
    measurement = ObjectMeasurement(classes, MEASURES[samples.task], split)
    loader = DataLoader(samples, batch_size=batch, num_workers=workers, collate_fn=collate)
    number = 0
    for done, (inputs, true, sizes) in enumerate(loader, 1):
        for found, objects, size in zip(find(inputs, sizes), true, sizes, strict=True):
            regions = (crowds or {}).get(str(samples.files[number]), ())
            measurement.add(found, _true(objects, samples), regions, size)
            number += 1
        on_batch(done, len(loader))
    return measurement


def _true(objects: Objects, samples: LabelledImages) -> TrueObjects:
    if samples.task == "segmentation":
        outlines = [outline / np.float32(SHRUNK) for outline in objects.polygons]
        masks = pictures.drawn(outlines, samples.side // SHRUNK).astype(bool)
        return TrueObjects(objects.classes, objects.boxes, masks=masks)
    if objects.keypoints is not None:
        return TrueObjects(objects.classes, objects.boxes, keypoints=objects.keypoints)
    return TrueObjects(objects.classes, objects.boxes)
