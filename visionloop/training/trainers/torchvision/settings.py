"""The settings of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.pytorch import settings as shared
from visionloop.training.trainers import Setting
from visionloop.training.trainers.torchvision import names

#: What ``augment: false`` switches off; 0 means off.
AUGMENTATIONS = ("fliplr", "flipud", "scale", "translate", "hsv_h", "hsv_s", "hsv_v")


def _share(default: float, description: str) -> Setting:
    return Setting(float, default, description, minimum=0.0, maximum=1.0)


_SETTINGS: dict[str, Setting] = {
    # Augmentation
    "scale": Setting(float, 0.5, "largest scaling as a share of the size", minimum=0.0, maximum=0.95),
    "translate": _share(0.1, "largest shift as a share of the image"),
    "flipud": _share(0.0, "probability of an upside-down flip"),
    "fliplr": _share(0.5, "probability of a left-right flip"),
    "hsv_h": _share(0.015, "largest change of hue, as a share"),
    "hsv_s": _share(0.7, "largest change of saturation, as a share"),
    "hsv_v": _share(0.4, "largest change of brightness, as a share"),
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
    """Switches augmentations off where ``augment`` is false; see also `visionloop.training.pytorch.settings.normalise`.

    Raises:
        InvalidConfig: If ``augment`` is false and one of them is set.
    """
    values = shared.normalise(values)
    if str(values.get("augment", True)).strip().lower() in ("false", "0"):
        for name in AUGMENTATIONS:
            if name in values and values[name] != 0:
                raise InvalidConfig(
                    f"augment is false, but {name} is {values[name]}: leave {name} out, or leave augment true."
                )
            values[name] = 0.0
    return values
