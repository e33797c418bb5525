"""The settings of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.training.pytorch import settings as shared
from visionloop.training.pytorch.objects import augmentation
from visionloop.training.trainers import Setting
from visionloop.training.trainers.transformers import names

#: What transformers are trained with: at the rates of convolutional networks they diverge. Their losses are not sure to bear half
#: precision.
_OWN: Mapping[str, Any] = {
    "lr0": 0.0001,
    "optimizer": "AdamW",
    "weight_decay": 0.0001,
    "max_grad_norm": 0.1,
    "amp": False,
}

_SETTINGS: dict[str, Setting] = {
    "model": Setting(
        str,
        names.DEFAULT,
        "starting weights: a folder or a file by a bare name, a path, s3://…, file://…, models:/NAME@alias, or an architecture's YAML name",
    ),
    **augmentation.SETTINGS,
    # Detections
    "conf": Setting(float, 0.001, "least confidence of a detection in validation", minimum=0.0, maximum=1.0),
    "max_det": Setting(int, 300, "most detections in an image", minimum=1, maximum=10_000),
    "freeze": Setting(
        str, "none", "what is not trained: backbone is what features are made by", choices=("none", "backbone")
    ),
    **shared.OPTIMIZATION,
    **{name: replace(shared.OPTIMIZATION[name], default=value) for name, value in _OWN.items()},
}


def settings(task: str) -> Mapping[str, Setting]:
    """The settings in addition to, and in place of, the basic ones: those of detection, the only task."""
    return _SETTINGS


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Spells the optimizer's name as torch does, and switches augmentations off where ``augment`` is false.

    Raises:
        InvalidConfig: As `visionloop.training.pytorch.settings.normalise`, and if ``augment`` is false and an augmentation is set.
    """
    return augmentation.normalise(shared.normalise(values))
