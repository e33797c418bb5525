"""The settings of augmentation."""

from __future__ import annotations

from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import Setting


def _share(default: float, description: str) -> Setting:
    return Setting(float, default, description, minimum=0.0, maximum=1.0)


#: All of them are off at 0, and so ``augment: false`` sets them.
SETTINGS: dict[str, Setting] = {
    "scale": Setting(float, 0.5, "largest scaling as a share of the size", minimum=0.0, maximum=0.95),
    "translate": _share(0.1, "largest shift as a share of the image"),
    "flipud": _share(0.0, "probability of an upside-down flip"),
    "fliplr": _share(0.5, "probability of a left-right flip"),
    "hsv_h": _share(0.015, "largest change of hue, as a share"),
    "hsv_s": _share(0.7, "largest change of saturation, as a share"),
    "hsv_v": _share(0.4, "largest change of brightness, as a share"),
}


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Switches augmentations off where ``augment`` is false.

    Raises:
        InvalidConfig: If ``augment`` is false and one of them is set.
    """
    values = dict(values)
    if str(values.get("augment", True)).strip().lower() in ("false", "0"):
        for name in SETTINGS:
            if name in values and values[name] != 0:
                raise InvalidConfig(
                    f"augment is false, but {name} is {values[name]}: leave {name} out, or leave augment true."
                )
            values[name] = 0.0
    return values
