"""Images in folders by class. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import Undecodable, decode
from visionloop.training.labels import files_below


class ClassFolders(Dataset[tuple[torch.Tensor, int]]):
    """The images of a split; a class is the position of its folder.

    Attributes:
        files: The images, in the folders' order.
        labels: The class of each.
    """

    def __init__(self, folder: Path, classes: int, transform: Callable[[Any], torch.Tensor]) -> None:
        """Lists the images.

        Args:
            folder: ``{split}`` of a dataset folder.
            classes: The number of classes; each has a folder, if need be an empty one.
            transform: Makes the model's input of a picture.

        Raises:
            InvalidDataset: If there is no image, or another number of folders.
        """
        folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        self.files, self.labels, self._transform = list[str](), list[int](), transform
        for index, own in enumerate(folders):
            files = files_below(own)
            self.files += files
            self.labels += [index] * len(files)
        if not self.files:
            raise InvalidDataset(f"{folder} has no image: give the split {folder.name} at least one.")
        if len(folders) != classes:
            raise InvalidDataset(
                f"{folder} has {len(folders)} folders of classes, and the dataset has {classes} classes: give each a folder, if "
                "need be an empty one."
            )

    @property
    def labelled(self) -> bool:
        """Whether there is ground truth: each image is of a class."""
        return True

    def __len__(self) -> int:
        """The number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The input and the class of an image. Raises InvalidDataset if it can't be decoded."""
        try:
            pixels = decode(Path(self.files[index]).read_bytes())
        except Undecodable as error:
            raise InvalidDataset(f"{Path(self.files[index]).name} is {error}; replace it, or leave it out.") from error
        return self._transform(Image.fromarray(pixels)), self.labels[index]
