"""Architectures: the kind of model of each task, and the backbones that it can have."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        task: What it is for.
        published: File name of the weights that torchvision publishes of it with ``resnet50_fpn``, trained on COCO.
        background: Rows of the background before those of the classes in its last layers.
    """

    task: str
    published: str
    background: int


#: By the first part of a model's name.
FAMILIES = {
    "fcos": Family("detection", "fcos_resnet50_fpn_coco-99b0c9b7.pth", 0),
    "maskrcnn": Family("segmentation", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 1),
    "keypointrcnn": Family("pose", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth", 1),
}

#: By the last part: ``tiny`` is narrow and shallow, for small pictures and little time.
BACKBONES = ("tiny", "resnet18_fpn", "resnet34_fpn", "resnet50_fpn", "resnet101_fpn")

#: The one that is trained where none is named.
DEFAULT = "resnet50_fpn"

_NAME = re.compile(rf"(?P<family>{'|'.join(FAMILIES)})_(?P<backbone>{'|'.join(BACKBONES)})")


def split(model: str) -> tuple[str, str] | None:
    """Family and backbone that a bare model or YAML name is for; None for a path, a URI or another name."""
    match = _NAME.fullmatch(re.sub(r"\.(yaml|yml)$", "", model))
    return (match["family"], match["backbone"]) if match else None


def architecture_of_file(name: str) -> str | None:
    """The architecture that a file of weights is named for, as torchvision's own are; None for another name."""
    match = _NAME.match(name)
    return match[0] if match else None


def default_model(task: str) -> str:
    """The model of a task that is trained where none is named."""
    return next(f"{name}_{DEFAULT}" for name, family in FAMILIES.items() if family.task == task)


def model_task(model: str) -> str | None:
    """The task of a bare model or YAML name, or None if the name does not show it."""
    parts = split(model)
    return FAMILIES[parts[0]].task if parts else None


def files(model: str) -> tuple[str, ...]:
    """File names that the weights of a bare model name may have."""
    published = [family.published for family in FAMILIES.values() if family.published.startswith(f"{model}_coco")]
    return (*(f"{model}{suffix}" for suffix in (".safetensors", ".pth", ".pt")), *published)
