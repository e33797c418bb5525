"""Optimizers by name, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Optimizers of torch, and how each takes the setting ``momentum``.
OPTIMIZERS: Mapping[str, str] = {
    "SGD": "momentum",
    "Adam": "betas",
    "AdamW": "betas",
    "NAdam": "betas",
    "RAdam": "betas",
    "RMSprop": "momentum",
}


def optimizer_of(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a model's trained parameters; biases and the parameters of normalisations do not decay.

    Args:
        model: The model.
        config: ``optimizer``, ``lr0``, ``momentum`` and ``weight_decay`` are used.
    """
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config["weight_decay"]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    name, momentum = str(config["optimizer"]), float(config["momentum"])
    arguments: dict[str, Any] = (
        {"momentum": momentum} if OPTIMIZERS[name] == "momentum" else {"betas": (momentum, 0.999)}
    )
    if name == "SGD" and momentum:
        arguments["nesterov"] = True
    return getattr(torch.optim, name)([group for group in groups if group["params"]], lr=config["lr0"], **arguments)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Rates:
    """The learning rate of each step: it rises during the warm-up, then falls to ``last``, along a cosine or a line.

    Attributes:
        first: The learning rate after the warm-up.
        last: That at the end.
        warmup: Steps of the warm-up.
        total: All steps.
        cosine: Whether it falls along a cosine.
    """

    first: float
    last: float
    warmup: int
    total: int
    cosine: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], *, steps: int, epochs: int) -> Rates:
        """Those of a configuration (``lr0``, ``lrf``, ``warmup_epochs``, ``cos_lr``) with ``steps`` in each of ``epochs``."""
        first, total = float(config["lr0"]), steps * epochs
        # No more than half of a short training is warm-up.
        warmup = min(round(float(config["warmup_epochs"]) * steps), total // 2)
        return cls(first, first * float(config["lrf"]), warmup, total, bool(config["cos_lr"]))

    def at(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over the whole training."""
        if step < self.warmup:
            return self.first * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.total - self.warmup - 1, 1)
        left = (1 + math.cos(math.pi * done)) / 2 if self.cosine else 1 - done
        return self.last + (self.first - self.last) * left

    def set(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Gives an optimizer the learning rate of a step."""
        for group in optimizer.param_groups:
            group["lr"] = self.at(step)
