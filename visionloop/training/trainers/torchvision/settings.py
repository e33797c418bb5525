"""The settings of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.training.pytorch import settings as shared
from visionloop.training.pytorch.objects import augmentation
from visionloop.training.trainers import Setting
from visionloop.training.trainers.torchvision import names


def _share(default: float, description: str) -> Setting:
    return Setting(float, default, description, minimum=0.0, maximum=1.0)


_SETTINGS: dict[str, Setting] = {
    **augmentation.SETTINGS,
    # Detections
    "conf": _share(0.001, "least confidence of a detection in validation"),
    "iou": _share(0.7, "IoU threshold of the non-maximum suppression"),
    "max_det": Setting(int, 300, "most detections in an image", minimum=1, maximum=10_000),
    "freeze": Setting(
        str, "none", "what is not trained: backbone is what features are made by", choices=("none", "backbone")
    ),
    **shared.OPTIMIZATION,
}


def settings(task: str) -> Mapping[str, Setting]:
    """The settings of a task in addition to, and in place of, the basic ones."""
    model = Setting(
        str,
        names.default_model(task) if task in {family.task for family in names.FAMILIES.values()} else "",
        "starting weights: a bare name, a path, s3://…, file://…, models:/NAME@alias, or an architecture's YAML name",
    )
    return {"model": model, **_SETTINGS}


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Spells the optimizer's name as torch does, and switches augmentations off where ``augment`` is false.

    Raises:
        InvalidConfig: As `visionloop.training.pytorch.settings.normalise`, and if ``augment`` is false and an augmentation is set.
    """
    return augmentation.normalise(shared.normalise(values))
