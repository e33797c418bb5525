"""Models by configuration, and what a model file says of them. Importing this module imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visionloop.training.pytorch import models
from visionloop.training.pytorch.exporting import Graph
from visionloop.training.pytorch.objects.detector import Detector, Found
from visionloop.training.pytorch.starting import Head
from visionloop.training.trainers import Rows
from visionloop.training.trainers.transformers import names
from visionloop.training.trainers.transformers.environment import library

#: What of a configuration depends on the dataset, or on where and by which release it was written.
_NOT_OF_THE_MODEL = (
    "id2label",
    "label2id",
    "num_labels",
    "transformers_version",
    "_name_or_path",
    "dtype",
    "torch_dtype",
)

#: Tensors with a row for each class.
_OF_CLASSES = re.compile(r"(^|\.)((class_embed\.\d+|enc_score_head)\.(weight|bias)|denoising_class_embed\.weight)$")

#: What fixes the size of pictures in a configuration; without them any multiple of 32 will do.
_FIXED_SIZE = ("anchor_image_size", "eval_size")


@dataclass(frozen=True)
class Description(Detector):
    """What a model file says of its model.

    Attributes:
        family: One of `names.FAMILIES`.
        configuration: The library's configuration of the model, without its classes.
    """

    family: str
    configuration: Mapping[str, Any]

    def build(self) -> nn.Module:
        """A model with random weights; nothing is fetched. Raises ValueError if the library can't make it of this configuration."""
        return build(self.family, self.configuration, len(self.classes))

    def graph(self, model: nn.Module) -> Graph:
        """Boxes and scores of each query."""
        return Graph(_Flat(model), ("boxes", "scores"), lambda outputs: Rows(outputs[1][0], outputs[0][0]), "queries")

    def find(self, model: nn.Module, inputs: torch.Tensor) -> list[Found]:
        """What a model finds, the likeliest first: of each query each class is likely by itself, so the best pairs of both count."""
        output = model(pixel_values=inputs)
        probabilities = output.logits.float().sigmoid()
        classes = probabilities.shape[-1]
        scores, numbers = probabilities.flatten(1).topk(min(self.max_det, probabilities[0].numel()))
        centre, sides = output.pred_boxes.float().split(2, -1)
        boxes = torch.cat([centre - sides / 2, centre + sides / 2], -1) * inputs.shape[-1]
        rows = torch.div(numbers, classes, rounding_mode="floor")
        chosen = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        return [
            Found.of(boxes=box, classes=number, scores=score)
            for box, number, score in zip(chosen, numbers % classes, scores, strict=True)
        ]


class _Flat(nn.Module):
    """A model with boxes in pixels and a score for each class as its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(pixel_values=images)
        centre, sides = output.pred_boxes.split(2, -1)
        return torch.cat([centre - sides / 2, centre + sides / 2], -1) * images.shape[-1], output.logits.sigmoid()


def heads(model: nn.Module) -> list[Head]:
    """A model's tensors with rows for each class; the last row of the embedding of noisy classes stands for none of them."""
    return [Head(name) for name in model.state_dict() if _OF_CLASSES.search(name)]


def configuration_of(family: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration of a model that differs from the library's defaults by ``changes``, as JSON knows it.

    Raises:
        ValueError: If the library finds it wrong.
    """
    values = _config(family, changes, 1).to_dict()
    return {name: value for name, value in values.items() if name not in _NOT_OF_THE_MODEL}


def build(family: str, configuration: Mapping[str, Any], classes: int) -> nn.Module:
    """A model with random weights. Raises ValueError as `Description.build`."""
    model: nn.Module = getattr(library(), names.FAMILIES[family][1])(_config(family, configuration, classes))
    return model


def _config(family: str, configuration: Mapping[str, Any], classes: int) -> Any:
    """The library's object. Raises ValueError."""
    from huggingface_hub.errors import StrictDataclassError

    values = {name: value for name, value in configuration.items() if name not in _NOT_OF_THE_MODEL}
    values |= dict.fromkeys(_FIXED_SIZE)
    made = getattr(library(), names.FAMILIES[family][0])
    try:
        return made.from_dict({**values, "num_labels": classes})
    except (StrictDataclassError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def load(path: Path, config: Mapping[str, Any]) -> tuple[Description, nn.Module]:
    """The description and the model of a model file, ready to predict.

    Args:
        path: The model file.
        config: ``max_det``, where it is not to be the training's.

    Raises:
        InvalidReceipt: If it is not a model file, or one of another library.
    """
    limits = {name: config[name] for name in ("max_det",) if name in config}
    return models.load(path, Description, Description.build, limits)
