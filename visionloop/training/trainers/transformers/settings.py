"""The settings in addition to, and in place of, the basic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.training.pytorch.objects.settings import AUGMENTATION, DETECTION
from visionloop.training.pytorch.settings import OPTIMIZATION
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

SETTINGS: Mapping[str, Setting] = {
    "model": Setting(
        str,
        names.DEFAULT,
        "starting weights: a folder or a file by a bare name, a path, s3://…, file://…, models:/NAME@alias, or an architecture's YAML name",
    ),
    **AUGMENTATION,
    **DETECTION,
    **OPTIMIZATION,
    **{name: replace(OPTIMIZATION[name], default=value) for name, value in _OWN.items()},
}
