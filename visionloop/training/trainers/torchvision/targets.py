"""Objects as torchvision's models take them. Importing this module imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.pictures import Objects


def target(objects: Objects, task: str, side: int, background: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Objects as torchvision's models take them; an object without an area is none to learn from.

    Args:
        objects: The objects of an input.
        task: ``detection``, ``segmentation`` or ``pose``.
        side: Of the input.
        background: What is added to a class's number.
        device: Where the tensors are put.
    """
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    kept: NDArray[np.bool_] = (sides[:, 0] > 0) & (sides[:, 1] > 0)
    values: dict[str, Any] = {"boxes": objects.boxes[kept], "labels": objects.classes[kept] + background}
    if task == "segmentation":
        outlines = [outline for outline, keep in zip(objects.polygons, kept.tolist(), strict=True) if keep]
        values["masks"] = pictures.drawn(outlines, side)
    if objects.keypoints is not None:
        values["keypoints"] = objects.keypoints[kept]
    return {name: torch.from_numpy(np.ascontiguousarray(value)).to(device) for name, value in values.items()}
