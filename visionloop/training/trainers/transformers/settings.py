"""The settings in addition to, and in place of, the basic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.training.pytorch.objects.settings import AUGMENTATION, DETECTION
from visionloop.training.pytorch.settings import OPTIMIZATION
from visionloop.training.trainers import Setting
from visionloop.training.trainers.transformers import names

#: What transformers are trained with: at the rates of convolutional networks they diverge.
_OWN: Mapping[str, Any] = {
    "lr0": 0.0001,
    "optimizer": "AdamW",
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
}

#: The library's names of settings, and ours.
SYNONYMS = {"fp16": "amp"}

#: Settings that only the library's own training has, and what to do instead.
ADVICE: Mapping[str, str] = {
    "warmup_ratio": "give warmup_epochs, which is this times epochs",
    "gradient_accumulation_steps": "give as batch the images of a whole step; one that does not fit into memory is computed in parts",
    "gradient_checkpointing": "leave it out; a batch that does not fit into memory is computed in parts",
    **dict.fromkeys(
        ("logging_steps", "eval_steps", "save_steps"), "leave it out; each epoch is logged, measured and kept"
    ),
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
