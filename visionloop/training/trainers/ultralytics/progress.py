"""Which epoch is the best, and when to stop, by the configured metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visionloop.training.trainers.ultralytics.tasks import BOXES, KEYPOINTS, MASKS


@dataclass
class Best:
    """The best epoch so far by the primary metric; called after each epoch, it returns whether to stop early.

    A metric that is still 0 does not show which epoch is better: while the best value to be maximised is 0, the latest
    epoch counts as the best, and patience does not run. So it is, whatever the mode, where nothing can be measured.

    Attributes:
        mode: ``max`` or ``min``.
        patience: Epochs without a better value after which training stops; with 0 it never does.
        epoch: The best epoch, 1-based, 0 before the first.
        value: Its value.
    """

    mode: str
    patience: int
    epoch: int = 0
    value: float = 0.0

    #: Read by the library, which would draw plots of the last validation if this were True.
    possible_stop = False

    def __call__(self, epoch: int, value: float | None) -> bool:
        """Records an epoch's value, None without a measurement, and returns whether patience has run out."""
        if value is None:
            self.epoch = epoch
        elif self.improved_by(value):
            self.epoch, self.value = epoch, value
        return bool(self.patience) and epoch - self.epoch >= self.patience

    def improved_by(self, value: float) -> bool:
        """Whether an epoch with this value is the new best."""
        if self.epoch == 0:
            return True
        if self.mode == "min":
            return value < self.value
        return value > self.value or self.value == 0 == value


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
