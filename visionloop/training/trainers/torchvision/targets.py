"""Objects as torchvision's models take them. Importing this module imports torch and torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection.roi_heads import RoIHeads

from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.pictures import Targets


def target(objects: Targets, task: str, side: int, background: int, device: torch.device) -> dict[str, Any]:
    """Objects as torchvision's models take them; objects without an area are left out.

    Args:
        objects: The objects of an input.
        task: ``detection``, ``segmentation`` or ``pose``.
        side: Of the input.
        background: What is added to a class's number.
        device: Where the tensors are put.

    Returns:
        Tensors by the library's names; ``masks`` is a function that draws those of some objects, by their indices.
    """
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    kept: NDArray[np.bool_] = (sides[:, 0] > 0) & (sides[:, 1] > 0)
    arrays: dict[str, Any] = {"boxes": objects.boxes[kept], "labels": objects.classes[kept] + background}
    if objects.keypoints is not None:
        arrays["keypoints"] = objects.keypoints[kept]
    values = {name: torch.from_numpy(np.ascontiguousarray(value)).to(device) for name, value in arrays.items()}
    if task == "segmentation":
        outlines = [outline for outline, keep in zip(objects.polygons, kept.tolist(), strict=True) if keep]

        def draw(rows: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(pictures.drawn([outlines[row] for row in rows.tolist()], side)).to(device)

        return {**values, "masks": draw}
    return values


class DrawingHeads(RoIHeads):  # type: ignore[misc]
    """The library's, for targets of `target`: masks are drawn of the objects that a step learns, of which there are some hundred.

    Those of all objects of a picture with thousands would take gigabytes.
    """

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """The library's choice, with the masks of the chosen objects in ``targets``."""
        proposals, matched, labels, regression = super().select_training_samples(proposals, targets)
        for number, (of, objects, classes) in enumerate(zip(targets, matched, labels, strict=True)):
            chosen = classes > 0
            rows, objects[chosen] = objects[chosen].unique(return_inverse=True)
            targets[number] = {**of, "labels": of["labels"][rows], "masks": of["masks"](rows)}
        return proposals, matched, labels, regression
