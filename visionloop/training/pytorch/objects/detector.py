"""A detector of any library: the description from which a model is built, and the objects that it finds. Importing this module imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionloop.training.pytorch.exporting import Graph
from visionloop.training.pytorch.models import Description


@dataclass(frozen=True)
class Found:
    """The D objects that a model finds in an input, in pixels of the input.

    Attributes:
        boxes: D × 4: x1, y1, x2, y2.
        classes: D class indices.
        scores: D numbers from 0 to 1.
        masks: For segmentation D × M × M from 0 to 1, each stretched over its box.
        keypoints: For pose D × K × 3: x, y, and confidence from 0 to 1.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.float32] | None = None
    keypoints: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, **tensors: torch.Tensor) -> Found:
        """From tensors by attribute."""
        return cls(
            **{
                name: (value.float() if value.is_floating_point() else value).cpu().numpy()
                for name, value in tensors.items()
            }
        )

    def only(self, rows: NDArray[np.bool_]) -> Found:
        """The objects of these rows."""
        return Found(**{name: value[rows] for name, value in vars(self).items() if value is not None})

    def scaled(self, across: float, down: float) -> Found:
        """The same in a picture that is larger by these factors."""
        points = self.keypoints
        return replace(
            self,
            boxes=self.boxes * np.array([across, down, across, down]),
            keypoints=None if points is None else points * np.array([across, down, 1.0]),
        )

    def inside(self, size: tuple[int, int]) -> Found:
        """Those that have an area and reach into the picture of this width and height, in the input's upper left corner."""
        left, top, right, bottom = self.boxes.T
        return self.only((left < size[0]) & (top < size[1]) & (right > left.clip(0)) & (bottom > top.clip(0)))

    def cut(self, size: tuple[int, int]) -> Found:
        """With boxes and keypoints that end at the picture's borders; masks are those of the whole boxes, so they are made before."""
        points = self.keypoints
        if points is not None:
            points = np.concatenate([points[..., :2].clip(0, size), points[..., 2:]], axis=-1)
        return replace(self, boxes=self.boxes.clip(0, size * 2), keypoints=points, masks=None)


@dataclass(frozen=True)
class Detector(Description, ABC):
    """What a model file says of a detector.

    Attributes:
        task: ``detection``, ``segmentation`` or ``pose``.
        max_det: The most detections in an image.
    """

    task: str
    max_det: int

    @property
    def keypoint_names(self) -> Sequence[str]:
        """For pose the keypoints' names."""
        return ()

    @abstractmethod
    def find(self, model: nn.Module, inputs: torch.Tensor) -> list[Found]:
        """What a model of this description finds in inputs.

        Args:
            model: In evaluation mode.
            inputs: N × 3 × side × side from 0 to 1, on its device.
        """

    def graph(self, model: nn.Module) -> Graph | None:
        """A model of this description as it is exported; None where that can't be done."""
        return None


def as_inputs(pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Pictures, N × 3 × side × side bytes, as models take them: numbers from 0 to 1, on a device."""
    return pictures.to(device, non_blocking=True).float() / 255
