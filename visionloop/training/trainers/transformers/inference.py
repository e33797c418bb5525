"""What a model finds in inputs, in pixels of the input. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionloop.training.measurement.objects import Detections
from visionloop.training.pytorch.objects.measuring import Finder


def detect(
    model: nn.Module, inputs: torch.Tensor, sizes: Sequence[tuple[int, int]], device: torch.device, *, most: int
) -> list[dict[str, NDArray[Any]]]:
    """What a model finds in inputs: each query has an independent probability of each class, so the best pairs of both count.

    Args:
        model: In evaluation mode, on ``device``.
        inputs: N × 3 × side × side bytes.
        sizes: Width and height of the picture in each; what is found beside it is left out.
        device: Where the model is.
        most: The most detections in an input.

    Returns:
        For each input ``boxes`` (D × 4: x1, y1, x2, y2), ``labels`` and ``scores``, the highest first.
    """
    output = model(pixel_values=inputs.to(device).float() / 255)
    probabilities = output.logits.float().sigmoid()
    classes = probabilities.shape[-1]
    scores, numbers = probabilities.flatten(1).topk(min(most, probabilities[0].numel()))
    centre, sides = output.pred_boxes.float().split(2, -1)
    boxes = torch.cat([centre - sides / 2, centre + sides / 2], -1) * inputs.shape[-1]
    rows = torch.div(numbers, classes, rounding_mode="floor")
    chosen = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    return [_arrays(*each) for each in zip(chosen, numbers % classes, scores, sizes, strict=True)]


def _arrays(
    boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor, size: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    left, top, right, bottom = boxes.unbind(1)
    inside = (left < size[0]) & (top < size[1]) & (right > left) & (bottom > top)
    values = {"boxes": boxes, "labels": labels, "scores": scores}
    return {name: value[inside].cpu().numpy() for name, value in values.items()}


def finder(model: nn.Module, device: torch.device, *, confidence: float, most: int) -> Finder:
    """A model, in evaluation mode on ``device``, as it is measured: detections of at least this confidence."""

    def find(inputs: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        side = inputs.shape[-1]
        detections = []
        for each in detect(model, inputs, sizes, device, most=most):
            kept = each["scores"] >= confidence
            boxes = each["boxes"][kept].clip(0, side)
            detections.append(Detections(each["labels"][kept].astype(np.int64), each["scores"][kept], boxes))
        return detections

    return find
