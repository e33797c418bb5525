"""The settings in addition to, and in place of, the basic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.core.errors import InvalidConfig
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

#: What the library's configurations have where an architecture changes neither.
_SIZES: Mapping[str, Any] = {"feat_strides": (8, 16, 32), "num_queries": 300}


def check_size(configuration: Mapping[str, Any], side: object) -> None:
    """Raises InvalidConfig if an input has fewer features than the model has queries, which are chosen among them.

    Args:
        configuration: The model's configuration, or what it changes of the library's.
        side: The setting ``imgsz``; what is no number is refused by the rule for all.
    """
    text = str(side).strip()
    if not (text.isascii() and text.isdecimal()):
        return
    values = {**_SIZES, **configuration}
    features, queries = sum((int(text) // stride) ** 2 for stride in values["feat_strides"]), int(values["num_queries"])
    if features < queries:
        raise InvalidConfig(
            f"imgsz is {text}, where this model has {features} features for its {queries} queries: give a larger one, or another model."
        )
