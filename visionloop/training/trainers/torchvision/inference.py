"""What a model finds in inputs, in pixels of the input. Importing this module imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionloop.training.measurement.objects import Detections
from visionloop.training.pytorch.objects.measuring import SHRUNK, Finder
from visionloop.training.trainers.torchvision.model import Description

#: A pixel belongs to an object where its mask is at least this, between 0 and 1.
SET = 0.5


def detect(
    model: nn.Module, inputs: torch.Tensor, sizes: Sequence[tuple[int, int]], device: torch.device
) -> list[dict[str, NDArray[Any]]]:
    """What a model finds in inputs.

    Args:
        model: In evaluation mode, on ``device``.
        inputs: N × 3 × side × side bytes.
        sizes: Width and height of the picture in each; what is found beside it is left out.
        device: Where the model is.

    Returns:
        For each input ``boxes`` (D × 4), ``labels`` (the model's numbers of the classes), ``scores``, for segmentation ``masks``
        (D × M × M, from 0 to 1, each stretched over its box), for pose ``keypoints`` (D × K × 3: x, y, confidence from 0 to 1).
    """
    found = model(list(inputs.to(device).float() / 255))
    return [_arrays(one, size) for one, size in zip(found, sizes, strict=True)]


def _arrays(found: dict[str, torch.Tensor], size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    left, top, right, bottom = found["boxes"].unbind(1)
    inside = (left < size[0]) & (top < size[1]) & (right > left) & (bottom > top)
    found = {name: value[inside] for name, value in found.items()}
    scores = found.pop("keypoints_scores", None)
    if scores is not None:
        # What the library gives as third number is always 1; its scores are logits of the likeliest places.
        found["keypoints"] = torch.cat([found["keypoints"][..., :2], scores.sigmoid()[..., None]], -1)
    if "masks" in found:
        found["masks"] = found["masks"][:, 0]
    return {
        name: value.float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
        for name, value in found.items()
    }


def finder(model: nn.Module, description: Description, device: torch.device) -> Finder:
    """A model, in evaluation mode on ``device``, as it is measured."""

    def find(inputs: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        found = detect(model, inputs, sizes, device)
        return [detections(one, description.background, description.imgsz) for one in found]

    return find


def detections(found: dict[str, NDArray[Any]], background: int, side: int) -> Detections:
    """What was found in an input, as it is measured: masks at a quarter of the input's size.

    Args:
        found: An entry of what `detect` returned.
        background: What the model adds to a class's number.
        side: Of the input in pixels.
    """
    more: dict[str, Any] = {}
    if "masks" in found:
        small = side // SHRUNK
        more["masks"] = np.zeros((len(found["boxes"]), small, small), bool)
        for whole, mask, box in zip(more["masks"], found["masks"], found["boxes"] / SHRUNK, strict=True):
            region, left, top = outlined(mask, box, small, small)
            whole[top : top + region.shape[0], left : left + region.shape[1]] = region
    if "keypoints" in found:
        more["keypoints"] = found["keypoints"]
    return Detections(found["labels"].astype(np.int64) - background, found["scores"], found["boxes"], **more)


def outlined(
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
