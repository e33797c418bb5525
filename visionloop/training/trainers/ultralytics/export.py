"""Model files as ONNX, for every task: by torch's exporter alone, since the library's own one installs packages and fetches datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from visionloop.training.pytorch import exporting
from visionloop.training.pytorch.exporting import Graph
from visionloop.training.trainers import Exported, Rows
from visionloop.training.trainers.ultralytics import checkpoint as files
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.tasks import task_of_library

#: What the library fills a picture's border with.
FILL = 114


class _Flat(nn.Module):
    """A model with the tensors that its runtimes expect as outputs: the predictions, and of a segmenter the masks' prototypes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        output = self.model(images)
        first = output[0] if isinstance(output, tuple) else output
        found: Tensor | tuple[Tensor, ...] = first
        return found


def exported(checkpoint: Path, folder: Path, format: str = "onnx") -> Exported:
    """Writes a model file in a format of `exporting.FORMATS`, whose input is a picture in the middle of a grey square.

    Raises:
        InvalidReceipt: If the library can't load the file as a model.
        InvalidConfig: As `exporting.exported`.
    """
    library()
    loaded = files.load_model(checkpoint)
    task, side = task_of_library(loaded.task), int(loaded.overrides.get("imgsz", 640))
    model, classes = loaded.model, len(files.class_names(loaded.model))
    if task == "classification":
        graph = Graph(_Flat(model), ("output0",), lambda outputs: Rows(outputs[0]), "classes")
        how = exporting.preprocessing_of(side, resize="shorter", round="down", antialias=True)
        return exporting.exported(graph, side, how, _classified(side), folder, format=format)
    whole = bool(getattr(model.model[-1], "end2end", False))
    form = "rows" if whole else "places"
    outputs = ("output0", "output1") if task == "segmentation" else ("output0",)
    graph = Graph(_Flat(model), outputs, lambda found: _rows(found, classes, whole), form, suppressed=whole)
    how = exporting.preprocessing_of(side, resize="longer", round="nearest", fill=FILL)
    return exporting.exported(graph, side, how, _letterboxed(side), folder, _located(side), format)


def _rows(outputs: Sequence[NDArray[Any]], classes: int, whole: bool) -> Rows:
    """What the outputs say: a row for each place of the picture, or, of a model that needs no suppression, for each object."""
    found = outputs[0][0] if whole else outputs[0][0].T
    prototypes = outputs[1] if len(outputs) > 1 else None
    if whole:
        scores = np.zeros((len(found), classes), np.float32)
        scores[np.arange(len(found)), found[:, 5].astype(int)] = found[:, 4]
        return Rows(scores, found[:, :4], found[:, 6:], prototypes)
    centre, half = found[:, :2], found[:, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], 1)
    return Rows(found[:, 4 : 4 + classes], boxes, found[:, 4 + classes :], prototypes)


def _letterboxed(side: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    box = library().data.augment.LetterBox((side, side), auto=False)

    def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        square = np.asarray(box(image=pixels))
        return np.ascontiguousarray(square.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)

    return prepared


def _located(side: int) -> exporting.Located:
    """Takes boxes of the square to the picture in its middle."""
    box = library().data.augment.LetterBox((side, side), auto=False)

    def located(boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        placed = box.get_params({"img": np.broadcast_to(np.uint8(0), (*size, 3))})
        return (boxes - np.array([placed["left"], placed["top"]] * 2, np.float32)) / np.float32(placed["ratio"][0])

    return located


def _classified(side: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    transform = library().data.augment.classify_transforms(side)

    def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs: torch.Tensor = transform(Image.fromarray(pixels))
        return np.asarray(inputs[None].numpy(), np.float32)

    return prepared
