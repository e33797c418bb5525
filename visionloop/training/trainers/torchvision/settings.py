"""The settings of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from visionloop.training.configuration.settings import BASIC
from visionloop.training.pytorch.objects.settings import AUGMENTATION, DETECTION
from visionloop.training.pytorch.settings import OPTIMIZATION, share
from visionloop.training.trainers import Setting
from visionloop.training.trainers.torchvision import names

_SETTINGS: dict[str, Setting] = {
    **AUGMENTATION,
    **DETECTION,
    "iou": share(0.7, "IoU threshold of the non-maximum suppression"),
    **OPTIMIZATION,
}


def settings(task: str) -> Mapping[str, Setting]:
    """The settings of a task in addition to, and in place of, the basic ones."""
    model = names.default_model(task) if task in {family.task for family in names.FAMILIES.values()} else ""
    return {"model": replace(BASIC["model"], default=model), **_SETTINGS}
