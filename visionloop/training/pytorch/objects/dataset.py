"""Labelled images as the models take them. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import Undecodable, decode
from visionloop.training import labels
from visionloop.training.pytorch.objects import pictures
from visionloop.training.pytorch.objects.pictures import Pixels, Targets

#: An input, 3 × side × side bytes, its objects, and width and height of the picture in it.
Sample = tuple[torch.Tensor, Targets, tuple[int, int]]

#: Moves, scales and recolours a picture with its objects.
Augmentation = Callable[[Pixels, Targets], tuple[Pixels, Targets]]


class LabelledImages(Dataset[Sample]):
    """The images of a split.

    Attributes:
        files: The images, sorted.
        labels: Those of each.
        task: ``detection``, ``segmentation`` or ``pose``.
        side: Of the square input in pixels.
    """

    def __init__(
        self, folder: Path, split: str, task: str, side: int, keypoints: int = 0, augment: Augmentation | None = None
    ) -> None:
        """Lists the images and reads all labels.

        Args:
            folder: The dataset folder.
            split: The split.
            task: ``detection``, ``segmentation`` or ``pose``.
            side: Of the square input in pixels.
            keypoints: For pose the number of keypoints.
            augment: What is done to a picture for training; None only pads it.

        Raises:
            InvalidDataset: If there is no image.
            InvalidReceipt: If a label is not as convert writes it.
        """
        self.files = labels.images(folder, split)
        self.labels = labels.read(folder, split, self.files, task, keypoints)
        self.task, self.side, self._augment = task, side, augment

    @property
    def labelled(self) -> bool:
        """Whether there is an object at all."""
        return any(len(label.classes) for label in self.labels)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """An input. Raises InvalidDataset if the image can't be decoded."""
        try:
            whole = decode(Path(self.files[index]).read_bytes())
        except Undecodable as error:
            raise InvalidDataset(f"{Path(self.files[index]).name} is {error}; replace it, or leave it out.") from error
        pixels, _, _ = pictures.fitted(whole, self.side)
        size = (pixels.shape[1], pixels.shape[0])
        objects = pictures.placed(self.labels[index], *size)
        if self._augment is None:
            pixels = pictures.padded(pixels, self.side)
        else:
            pixels, objects = self._augment(pixels, objects)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), objects, size


def collate(samples: Sequence[Sample]) -> tuple[torch.Tensor, list[Targets], list[tuple[int, int]]]:
    """A batch: inputs, N × 3 × side × side, and the objects and the picture's size of each."""
    inputs, objects, sizes = zip(*samples, strict=True)
    return torch.stack(inputs), list(objects), list(sizes)


def augmentation(config: Mapping[str, Any], side: int, flip: Sequence[int]) -> Augmentation | None:
    """What is done to a training's pictures by its settings; None for nothing."""
    if not config["augment"]:
        return None

    def augment(pixels: Pixels, objects: Targets) -> tuple[Pixels, Targets]:
        return pictures.augmented(pixels, objects, side, config, flip)

    return augment
