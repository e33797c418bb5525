"""The settings of classification, by the names of timm's training script, and the library's own names for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration.settings import BASIC
from visionloop.training.configuration.values import shown
from visionloop.training.pytorch import settings as shared
from visionloop.training.pytorch.settings import share
from visionloop.training.trainers import Setting

#: The library's names of settings that are called here as in its training script.
SYNONYMS = {
    "auto_augment": "aa",
    "re_prob": "reprob",
    "re_mode": "remode",
    "re_count": "recount",
    "drop": "drop_rate",
    "drop_path": "drop_path_rate",
    "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha",
    "smoothing": "label_smoothing",
    "opt": "optimizer",
    "lr": "lr0",
    "clip_grad": "max_grad_norm",
}

#: What ``augment: false`` switches off, and the value of each that means off.
AUGMENTATIONS: dict[str, float | str] = {
    "aa": "none",
    "reprob": 0.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "hflip": 0.0,
    "vflip": 0.0,
    "color_jitter": 0.0,
    "scale": 1.0,
}

#: A recipe of automatic augmentation: its kind, then its options as the library writes them.
_RECIPE = re.compile(
    r"none"
    r"|rand(-(m\d+|mmax[1-9]\d*|n[1-9]\d*|inc[01]|p\d+(\.\d+)?|mstd\d+(\.\d+)?|t(weights|3aw?)))*"
    r"|augmix(-(m\d+|w[1-9]\d*|d[1-9]\d*|b[01]|a\d+(\.\d+)?|mstd\d+(\.\d+)?))*"
    r"|(3a|originalr?|v0r?)(-mstd\d+(\.\d+)?)*"
)


#: The settings in addition to, and in place of, the basic ones.
SETTINGS: Mapping[str, Setting] = {
    "model": replace(BASIC["model"], default="resnet18"),
    "imgsz": replace(BASIC["imgsz"], default=224),
    # Augmentation
    "aa": Setting(str, "rand-m9-mstd0.5", "recipe of automatic augmentation, such as rand-m9-mstd0.5; none for none"),
    "reprob": share(0.25, "probability of erasing a part of an image"),
    "remode": Setting(str, "pixel", "what is put there", choices=("const", "rand", "pixel")),
    "recount": Setting(int, 1, "how many parts are erased", minimum=1, maximum=100),
    "mixup_alpha": Setting(float, 0.8, "strength of blending two images; 0 blends none", minimum=0.0, maximum=100.0),
    "cutmix_alpha": Setting(
        float, 1.0, "strength of pasting a part of another image; 0 pastes none", minimum=0.0, maximum=100.0
    ),
    "mixup_prob": share(1.0, "probability of one of the two in a batch"),
    "mixup_switch_prob": share(0.5, "probability of pasting in place of blending, where both are switched on"),
    "hflip": share(0.5, "probability of a left-right flip"),
    "vflip": share(0.0, "probability of an upside-down flip"),
    "color_jitter": share(0.4, "largest change of colours, as a share; used where aa is none"),
    "scale": Setting(
        float, 0.08, "least share of an image's area that a crop of it has; 1 crops nothing", minimum=0.01, maximum=1.0
    ),
    "crop_pct": Setting(
        float,
        None,
        "part of a picture's shorter side that is looked at in validation and prediction; empty is the architecture's own",
        minimum=0.1,
        maximum=1.0,
        optional=True,
    ),
    # Regularisation
    "drop_rate": Setting(float, 0.0, "share of the last features that is dropped", minimum=0.0, maximum=0.99),
    "drop_path_rate": Setting(float, 0.1, "share of the residual paths that is dropped", minimum=0.0, maximum=0.99),
    "label_smoothing": Setting(
        float, 0.1, "share of a label that is spread over all classes", minimum=0.0, maximum=0.99
    ),
    "class_weights": Setting(
        str,
        "none",
        "weights of the classes in the loss: balanced is by the inverse of their number of images; not with mixup or cutmix",
        choices=("none", "balanced"),
    ),
    "freeze": Setting(
        str, "none", "what is not trained: backbone is all but the last layer", choices=("none", "backbone")
    ),
    **shared.OPTIMIZATION,
}


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Maps the library's own names, switches augmentations off where ``augment`` is false, and checks the recipe.

    Raises:
        InvalidConfig: If a setting stands there under two names, contradicts ``augment``, or ``aa`` is not a recipe.
    """
    values = shared.normalise(shared.renamed(values, SYNONYMS))
    if "aa" in values:
        values["aa"] = _recipe(values["aa"])
    if not shared.augmented(values):
        shared.switch_off(values, AUGMENTATIONS)
    mixed = any(_number(values.get(name, SETTINGS[name].default)) for name in ("mixup_alpha", "cutmix_alpha"))
    if values.get("class_weights") == "balanced" and mixed:
        raise InvalidConfig(
            "class_weights is balanced, but mixup_alpha and cutmix_alpha blend images of several classes: set both to 0, or leave class_weights out."
        )
    return values


def _number(value: object) -> float:
    """A value as a number; 0 if it is not one, which the setting's own rule refuses."""
    try:
        return float(str(value))
    except ValueError:
        return 0.0


def _recipe(value: object) -> str:
    recipe = str(value).strip().lower()
    if recipe in ("", "false"):
        return "none"
    if _RECIPE.fullmatch(recipe) is None:
        raise InvalidConfig(f"aa is {shown(value)}: give a recipe such as rand-m9-mstd0.5, augmix-m5 or v0, or none.")
    return recipe
