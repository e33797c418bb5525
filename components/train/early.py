"""Why a training ends before its last epoch: a primary metric that is good enough, or one that gets no better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The scalar of a receipt that says what ended a training early.
SCALAR = "ended_early_by"


def is_good_enough(settings: Mapping[str, Any], val_metrics: Mapping[str, float]) -> bool:
    """Whether an epoch's primary metric reaches ``stop_metric``; never where that is not set, or val has no label.

    Args:
        settings: The training's settings by name.
        val_metrics: The epoch's metrics on val.
    """
    wanted, value = settings.get("stop_metric"), val_metrics.get(str(settings["primary_metric"]))
    if wanted is None or value is None:
        return False
    return bool(value <= wanted if settings["primary_metric_mode"] == "min" else value >= wanted)


def ended_early_by(settings: Mapping[str, Any], epochs: int, val_metrics: Mapping[str, float]) -> str | None:
    """The setting that ended a training, ``stop_metric`` or ``patience``; None where all epochs were done.

    Args:
        settings: The training's settings by name.
        epochs: The epochs that were done.
        val_metrics: The last one's metrics on val.
    """
    if epochs >= int(settings["epochs"]):
        return None
    if is_good_enough(settings, val_metrics):
        return "stop_metric"
    return "patience" if settings.get("patience") else None


def sentence(settings: Mapping[str, Any], reason: str, epochs: int, best_epoch: int, value: float) -> str:
    """What is told of it.

    Args:
        settings: The training's settings by name.
        reason: The setting that ended it.
        epochs: The epochs that were done.
        best_epoch: The best one.
        value: The primary metric of the last epoch for ``stop_metric``, of the best one for ``patience``.
    """
    metric = settings["primary_metric"]
    if reason == "stop_metric":
        why = f"its {metric} of {value:.4g} reaches stop_metric {settings['stop_metric']:g}"
    else:
        why = f"no {metric} was better than {value:.4g}, of epoch {best_epoch}, for {settings['patience']} epochs (patience)"
    return f"ended well after epoch {epochs} of {settings['epochs']}: {why}."
