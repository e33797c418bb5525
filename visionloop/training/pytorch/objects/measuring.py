"""A model measured on a split. Importing this module imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionloop.data.annotations.crowds import Crowd
from visionloop.training.measurement.objects import MEASURES, Detections, ObjectMeasurement, Objects
from visionloop.training.pytorch.loading import Loader
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.dataset import LabelledImages, collate
from visionloop.training.pytorch.objects.detector import Detector, Found, as_inputs
from visionloop.training.pytorch.objects.pictures import Targets
from visionloop.training.pytorch.prediction import SET

#: By how much masks are smaller than inputs when they are compared: as in Ultralytics, so that figures mean the same. There a smaller
#: object covers larger ones' masks; here each mask is whole, as these models learn it.
SHRUNK = 4


def measured(
    about: Detector,
    model: nn.Module,
    samples: LabelledImages,
    *,
    device: torch.device,
    confidence: float,
    split: str,
    batch: int,
    workers: int,
    on_batch: Callable[[int, int], None],
    crowds: Mapping[str, Sequence[Crowd]] | None = None,
) -> ObjectMeasurement:
    """Measures a model.

    Args:
        about: Its description.
        model: In evaluation mode.
        samples: The split's images.
        device: Where the model is.
        confidence: The least confidence of a detection that counts.
        split: The split's name.
        batch: Images at once.
        workers: Processes that load images.
        on_batch: Called with the number of batches done and the total.
        crowds: The crowd regions by image file.
    """
    measurement = ObjectMeasurement(about.classes, MEASURES[samples.task], split)
    loader = Loader(samples, batch, workers=workers, collate=collate)
    number = 0
    for done, (inputs, true, sizes) in enumerate(loader, 1):
        for output, objects, size in zip(about.find(model, as_inputs(inputs, device)), true, sizes, strict=True):
            regions = (crowds or {}).get(samples.files[number], ())
            detections = _detections(output.only(output.scores >= confidence), size, samples.side)
            measurement.add(detections, _true(objects, samples.task, samples.side), regions, size)
            number += 1
        on_batch(done, len(loader))
    return measurement


def _detections(output: Found, size: tuple[int, int], side: int) -> Detections:
    """What is found in a picture of this width and height, in a square of this side."""
    output, more = output.inside(size), dict[str, Any]()
    if output.masks is not None:
        small, width, height = side // SHRUNK, math.ceil(size[0] / SHRUNK), math.ceil(size[1] / SHRUNK)
        more["masks"] = np.zeros((len(output.boxes), small, small), bool)
        for whole, mask, box in zip(more["masks"], output.masks, output.boxes / SHRUNK, strict=True):
            region, left, top = mask_in_picture(mask, box, width, height)
            whole[top : top + region.shape[0], left : left + region.shape[1]] = region
    shown = output.cut(size)
    if shown.keypoints is not None:
        more["keypoints"] = shown.keypoints
    return Detections(shown.classes, shown.scores, shown.boxes, **more)


def _true(objects: Targets, task: str, side: int) -> Objects:
    if task == "segmentation":
        masks = pictures.drawn(objects.polygons, side, SHRUNK).astype(bool)
        return Objects(objects.classes, objects.boxes, masks=masks)
    if objects.keypoints is not None:
        return Objects(objects.classes, objects.boxes, keypoints=objects.keypoints)
    return Objects(objects.classes, objects.boxes)


def mask_in_picture(
    mask: NDArray[np.float32], box: NDArray[np.float32], width: int, height: int
) -> tuple[NDArray[np.bool_], int, int]:
    """An object's mask in a picture: the pixels of its box's region that are set, and the column and row of the first one.

    Args:
        mask: M × M, from 0 to 1, stretched over the box.
        box: x1, y1, x2, y2 in the picture.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
    """
    left, top = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    right, bottom = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), bool), 0, 0
    across, down = (len(mask) / max(float(side), 1e-6) for side in (box[2] - box[0], box[3] - box[1]))
    # Pixel centres of the region, in the mask.
    to_mask = np.array(
        [
            [across, 0, (left + 0.5 - box[0]) * across - 0.5],
            [0, down, (top + 0.5 - box[1]) * down - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    region = cv2.warpAffine(mask, to_mask, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return region >= SET, left, top
