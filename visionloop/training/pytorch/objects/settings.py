"""The settings of every trainer of detectors with the loop here."""

from __future__ import annotations

from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.pytorch.settings import share
from visionloop.training.trainers import Setting

#: Augmentations. All of them are off at 0, and so ``augment: false`` sets them.
AUGMENTATION: dict[str, Setting] = {
    "scale": Setting(float, 0.5, "largest scaling as a share of the size", minimum=0.0, maximum=0.95),
    "translate": share(0.1, "largest shift as a share of the image"),
    "flipud": share(0.0, "probability of an upside-down flip"),
    "fliplr": share(0.5, "probability of a left-right flip"),
    "hsv_h": share(0.015, "largest change of hue, as a share"),
    "hsv_s": share(0.7, "largest change of saturation, as a share"),
    "hsv_v": share(0.4, "largest change of brightness, as a share"),
}

#: Which detections count, and what is trained.
DETECTION: dict[str, Setting] = {
    "conf": share(LEAST_CONFIDENCE, "least confidence of a detection in validation"),
    "max_det": Setting(int, 300, "most detections in an image", minimum=1, maximum=10_000),
    "freeze": Setting(
        str, "none", "what is not trained: backbone is what features are made by", choices=("none", "backbone")
    ),
}
