"""The picture of a training's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_history(history: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draws losses and metrics over the epochs, and returns the picture's path."""
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    for part, names in (("train_metrics", ("loss",)), ("val_metrics", ("val_loss",))):
        for name in names:
            losses.plot(epochs, [entry[part].get(name) for entry in history], marker=".", label=name)
    for name in history[-1]["val_metrics"]:
        if "loss" not in name:
            metrics.plot(epochs, [entry["val_metrics"].get(name) for entry in history], marker=".", label=name)
    for axes, title in ((losses, "Loss"), (metrics, "Validation")):
        axes.set(title=title, xlabel="epoch")
        if axes.get_legend_handles_labels()[0]:  # without a label in val no metric is measured
            axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path
