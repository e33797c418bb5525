"""The settings of every trainer with the loop here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration.settings import BASIC
from visionloop.training.configuration.values import shown
from visionloop.training.pytorch.optimizers import OPTIMIZERS
from visionloop.training.trainers import Setting


def share(default: float, description: str) -> Setting:
    """A setting from 0 to 1."""
    return Setting(float, default, description, minimum=0.0, maximum=1.0)


#: How the weights move.
OPTIMIZATION: dict[str, Setting] = {
    "lr0": Setting(float, 0.01, "learning rate after the warm-up", minimum=1e-9, maximum=10.0),
    "optimizer": Setting(str, "SGD", "name of the optimizer", choices=tuple(OPTIMIZERS)),
    "lrf": Setting(float, 0.01, "learning rate at the end, as a share of lr0", minimum=0.0, maximum=1.0),
    "momentum": Setting(float, 0.9, "momentum of SGD and RMSprop, beta1 of the others", minimum=0.0, maximum=0.9999),
    "weight_decay": Setting(
        float, 0.0005, "weight decay, of neither biases nor normalisations", minimum=0.0, maximum=1.0
    ),
    "warmup_epochs": Setting(
        float, 3.0, "epochs of warm-up, half of the training at most", minimum=0.0, maximum=1000.0
    ),
    "cos_lr": Setting(bool, True, "let the learning rate follow a cosine, else a line"),
    "max_grad_norm": Setting(
        float, 10.0, "largest norm of the gradients; 0 does not limit it", minimum=0.0, maximum=1e6
    ),
    "model_ema": Setting(bool, True, "validate and keep a moving average of the weights"),
    "model_ema_decay": Setting(
        float, 0.9999, "share of the average that a step keeps, reached after some steps", minimum=0.0, maximum=0.999999
    ),
    "amp": Setting(bool, True, "mixed precision on a GPU"),
    "deterministic": Setting(bool, True, "deterministic algorithms where torch has them"),
    # Each image draws random numbers of its own, whichever process loads it.
    "workers": replace(BASIC["workers"], affects_result=False),
}


def renamed(values: Mapping[str, Any], synonyms: Mapping[str, str]) -> dict[str, Any]:
    """Settings by our names, where they stand under a library's own.

    Raises:
        InvalidConfig: If one stands there under both, with two values.
    """
    values = dict(values)
    for name, ours in synonyms.items():
        if name not in values:
            continue
        if ours in values and values[ours] != values[name]:
            raise InvalidConfig(
                f"{name} {shown(values[name])} and {ours} {shown(values[ours])} are the same setting with two values: give {ours} alone."
            )
        values[ours] = values.pop(name)
    return values


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Spells the optimizer's name as torch does.

    Raises:
        InvalidConfig: If decoded images are to be kept, which the loop does not.
    """
    values = dict(values)
    if "optimizer" in values:
        spelled = {name.lower(): name for name in OPTIMIZERS}
        values["optimizer"] = spelled.get(str(values["optimizer"]).strip().lower(), values["optimizer"])
    if str(values.get("cache") or "false").strip().lower() != "false":
        raise InvalidConfig(
            f"cache is {shown(values['cache'])}, but this trainer keeps no decoded images: leave cache out."
        )
    return values


def switch_off(values: dict[str, Any], off: Mapping[str, float | str]) -> None:
    """Switches augmentations off for ``augment: false``.

    Args:
        values: Values by setting; changed in place.
        off: By augmentation the value that means off.

    Raises:
        InvalidConfig: If one of them is set to another value.
    """
    for name, value in off.items():
        if name in values and values[name] != value:
            raise InvalidConfig(
                f"augment is false, but {name} is {values[name]}: leave {name} out, or leave augment true."
            )
        values[name] = value


def augmented(values: Mapping[str, Any]) -> bool:
    """Whether ``augment`` is true, which it is where nothing is said."""
    return str(values.get("augment", True)).strip().lower() not in ("false", "0")
