"""The basic settings, which every trainer has, and the list of all settings of a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from visionloop.training.trainers import Setting, Trainer, Value

#: imgsz must be a multiple of this (the deepest stride of the detectors).
IMGSZ_MULTIPLE = 32

#: The metric by which models of a task are compared where nothing else is asked for.
PRIMARY_METRICS: Mapping[str, str] = {
    "detection": "mAP50-95",
    "segmentation": "mask_mAP50-95",
    "pose": "pose_mAP50-95",
    "classification": "accuracy_top1",
}

#: Basic settings with their documented defaults; outside the ranges, no training makes sense. A trainer's setting of the same
#: name replaces a basic one (another default model, fewer optimizers).
BASIC: Mapping[str, Setting] = {
    "trainer": Setting(str, "ultralytics", "the training library, by the name of its entry point"),
    "model": Setting(
        str,
        "yolo11n",
        "starting weights: a bare name, a path, s3://…, file://…, models:/NAME@alias, or an architecture's YAML name",
    ),
    "pretrained": Setting(bool, True, "false trains a bare model name from scratch, as its YAML name does"),
    "imgsz": Setting(int, 640, "side of the square input in pixels, a multiple of 32", minimum=32, maximum=8192),
    "epochs": Setting(int, 100, "passes over the training images", minimum=1, maximum=100_000),
    "batch": Setting(int, 16, "images in a batch, of all devices together", minimum=1, maximum=65_536),
    "lr0": Setting(float, 0.01, "learning rate at the start", minimum=1e-9, maximum=10.0),
    "optimizer": Setting(str, "SGD", "name of the optimizer"),
    "augment": Setting(bool, True, "false switches off the training augmentations that are not set one by one"),
    "seed": Setting(int, 0, "seed of all random numbers", minimum=0, maximum=2**31 - 1),
    "patience": Setting(
        int,
        100,
        "epochs without a better primary metric after which training stops early; 0 or empty never does",
        minimum=0,
        maximum=100_000,
        optional=True,
    ),
    "stop_metric": Setting(
        float,
        None,
        "value of the primary metric that is good enough: the training ends well after the first epoch that reaches it",
        optional=True,
        default_in_key=False,
    ),
    "primary_metric": Setting(str, "mAP50-95", "metric that decides the best epoch and early stopping"),
    "primary_metric_mode": Setting(
        str, "max", "whether a larger (max) or a smaller (min) primary metric is better", choices=("max", "min")
    ),
    "device": Setting(
        str,
        None,
        "cpu, a GPU's number, or those of several, such as 0,1, whose number is in the key; empty takes the first GPU when there is one",
        optional=True,
        affects_result=False,
    ),
    # Each process that loads images draws random numbers of its own, so their number decides which images a batch is made of.
    "workers": Setting(int, 8, "processes that load images", minimum=0, maximum=512, default_in_key=False),
    # Cached images change what augmentations draw from.
    "cache": Setting(
        str,
        False,
        "keep decoded images in memory (ram, also written true) or on the disk",
        choices=("ram", "disk"),
        true_means="ram",
        default_in_key=False,
    ),
    "checkpoint_minutes": Setting(
        float,
        0.0,
        "minutes after which a checkpoint is made within an epoch too, for epochs of hours; 0 makes one at each epoch's end alone",
        minimum=0.0,
        maximum=1440.0,
        affects_result=False,
    ),
    "resize": Setting(
        int,
        0,
        "keep larger images in the cache reduced to this longer side in pixels, imgsz at least; 0 keeps them whole",
        minimum=0,
        maximum=65_536,
        default_in_key=False,
    ),
}

#: Other names of settings, accepted everywhere.
ALIASES: Mapping[str, str] = {"batch_size": "batch", "learning_rate": "lr0"}

#: Other names in CONFIG and in ``basic`` of the file that CONFIG_PATH names; elsewhere ``model_name`` is the registered model's name.
REQUEST_ALIASES: Mapping[str, str] = {**ALIASES, "model_name": "model", "framework": "trainer"}

#: The settings that can't be empty; if one is missing, it is reported by name.
REQUIRED: tuple[str, ...] = tuple(name for name, setting in BASIC.items() if not setting.optional)


@dataclass(frozen=True)
class Description:
    """One setting for a person: name, type, default, range or choices, meaning. ``in_key``: ``yes``, ``no``, ``unless 8``."""

    name: str
    kind: str
    default: str
    allowed: str
    meaning: str
    in_key: str


def settings_of(trainer: Trainer, task: str) -> dict[str, Setting]:
    """All settings of a trainer for a task, basic ones first.

    ``primary_metric`` gets the trainer's metrics for this task as choices, and the first of them as default if the task's own is
    not among them.
    """
    settings = {**BASIC, **trainer.settings(task)}
    metrics = tuple(trainer.metrics.get(task, ()))
    primary = settings["primary_metric"]
    if metrics and not primary.choices:
        own = PRIMARY_METRICS.get(task)
        default = own if own in metrics else metrics[0]
        settings["primary_metric"] = replace(primary, choices=metrics, default=default)
    return settings


def allowed_values(setting: Setting) -> str:
    """The values that a setting takes, in words: ``a whole number from 1 to 100000``, ``max or min``."""
    if setting.choices:
        *others, last = ("false", *setting.choices) if setting.true_means else setting.choices
        words = f"{', '.join(others)} or {last}" if others else last
    elif setting.kind is bool:
        words = "true or false"
    elif setting.kind is str:
        words = "a name" if not setting.optional else "a word"
    else:
        words = "a whole number" if setting.kind is int else "a number"
        match setting.minimum, setting.maximum:
            case None, None:
                pass
            case low, None:
                words += f" of at least {_plain(low)}"
            case None, high:
                words += f" of at most {_plain(high)}"
            case low, high:
                words += f" from {_plain(low)} to {_plain(high)}"
    return f"{words}, or empty" if setting.optional else words


def describe(settings: Mapping[str, Setting]) -> list[Description]:
    """The settings as rows for the command line's help and the docs, in their order."""
    return [
        Description(
            name=name,
            kind=setting.kind.__name__,
            default=display(setting.default),
            allowed=allowed_values(setting),
            meaning=setting.description,
            in_key=_in_key(setting),
        )
        for name, setting in settings.items()
    ]


def _in_key(setting: Setting) -> str:
    if not setting.affects_result:
        return "no"
    return "yes" if setting.default_in_key else f"unless {display(setting.default)}"


def display(value: Value) -> str:
    """A value as a user writes it: ``true``, ``0.01``, ``SGD``, and ``empty`` for None."""
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(number: float | None) -> str:
    """A bound; a whole number is written without an exponent."""
    return str(int(number)) if number is not None and number == int(number) else f"{number:g}"
