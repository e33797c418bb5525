"""Models by configuration, and what a model file says of them. Importing this module imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visionloop.training.pytorch import models
from visionloop.training.pytorch.starting import Head
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
class Description:
    """What a model file says of its model.

    Attributes:
        family: One of `names.FAMILIES`.
        configuration: The library's configuration of the model, without its classes.
        task: ``detection``.
        classes: Class names by index.
        imgsz: Side of the square input in pixels.
        max_det: The most detections in an image.
    """

    family: str
    configuration: Mapping[str, Any]
    task: str
    classes: Sequence[str]
    imgsz: int
    max_det: int

    def as_json(self) -> dict[str, Any]:
        """The description as JSON knows it."""
        return asdict(self)

    def build(self) -> nn.Module:
        """A model with random weights; nothing is fetched. Raises ValueError if the library can't make it of this configuration."""
        return build(self.family, self.configuration, len(self.classes))


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


def load(path: Path) -> tuple[Description, nn.Module]:
    """The description and the model of a model file, ready to predict.

    Raises:
        InvalidReceipt: If it is none, or of another library.
    """
    values, weights = models.read(path)
    try:
        description = Description(**values)
        model = description.build()
        model.load_state_dict(weights)
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        raise models.unusable(path) from error
    return description, model.eval()


def backbone_parameters(model: nn.Module) -> list[torch.nn.Parameter]:
    """The parameters by which a model's features are made."""
    return list(model.model.backbone.parameters())  # type: ignore[union-attr]
