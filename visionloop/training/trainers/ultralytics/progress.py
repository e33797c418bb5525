"""The library's losses and metrics by our names."""

from __future__ import annotations

from typing import Any

from visionloop.training.pytorch.best import Best
from visionloop.training.trainers.ultralytics.tasks import BOXES, KEYPOINTS, MASKS


class Stopper(Best):
    """The best epoch, in the place of the library's own early stopping."""

    #: Read by the library, which would draw plots of the last validation if this were True.
    possible_stop = False


def train_metrics(losses: dict[str, Any], learning_rate: float) -> dict[str, float]:
    """An epoch's mean losses and learning rate by our metric names; ``loss`` is the sum of the losses."""
    items = {name: float(value) for name, value in losses.items()}
    return {"loss": sum(items.values()), **items, "lr": learning_rate}


def val_metrics(results: dict[str, float], *, measured: bool = True) -> dict[str, float]:
    """The library's validation results by our metric names; without ``measured`` the losses alone.

    ``metrics/mAP50(B)`` → ``mAP50``, ``metrics/mAP50(M)`` → ``mask_mAP50``, ``metrics/mAP50(P)`` → ``pose_mAP50``,
    ``val/box_loss`` → ``val_box_loss``, and their sum ``val_loss``.
    """
    metrics: dict[str, float] = {}
    losses: dict[str, float] = {}
    prefixes = {measure.suffix: measure.prefix for measure in (BOXES, MASKS, KEYPOINTS)}
    for key, value in results.items():
        group, _, name = key.partition("/")
        if group == "val":
            losses[f"val_{name}"] = float(value)
        elif group == "metrics":
            suffix = name[-3:] if name[-3:] in prefixes else ""
            metrics[prefixes.get(suffix, "") + name.removesuffix(suffix)] = float(value)
    if losses:
        metrics["val_loss"] = sum(losses.values())
    return {name: value for name, value in metrics.items() if measured or name == "val_loss"} | losses
