"""Metrics that every trainer measures in the same way, so that the gate can compare the figures of one with those of another."""

from __future__ import annotations

import math
import re

#: Among how many of the likeliest classes of an image the true one must be.
WITHIN = {"accuracy_top1": 1, "accuracy_top5": 5}

#: The least confidence of a detection that counts where a setting does not say another.
LEAST_CONFIDENCE = 0.001

#: The metrics of objects, by box, mask or keypoints.
OBJECT_METRICS = ("precision", "recall", "mAP50", "mAP50-95")

#: What their names begin with in each task: nothing for boxes, and last for what the task is about.
PREFIXES = {"detection": ("",), "segmentation": ("", "mask_"), "pose": ("", "pose_")}

_BOXES = ("mAP50-95", "mAP50", "precision", "recall")

#: Those of each task that the best epoch can be chosen by.
TASK_METRICS = {
    "detection": _BOXES,
    "segmentation": (*_BOXES, "mask_mAP50-95", "mask_mAP50"),
    "pose": (*_BOXES, "pose_mAP50-95", "pose_mAP50"),
    "classification": tuple(WITHIN),
}

#: The names of metrics that are shares, with the part of the task (``mask_``, ``pose_``) before them.
_SHARES = re.compile(r"(?:[a-z]+_)?(?:mAP\d.*|precision|recall|accuracy.*)")


def metric_range(name: str) -> tuple[float, float]:
    """The smallest and the largest value that a metric of this name can have; infinite where its name does not tell."""
    if _SHARES.fullmatch(name):
        return 0.0, 1.0
    return (0.0, math.inf) if name.endswith("loss") else (-math.inf, math.inf)
