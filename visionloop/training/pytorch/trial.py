"""Trains a model on one batch again and again, and watches its loss and gradients. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from visionloop.training import trial
from visionloop.training.trainers import BatchTrial, Listener

#: How many components of a weight's name are the name of its part, such as ``backbone.body``.
DEPTH = 2


class Gradients:
    """The largest norm of the gradients of each part of a model in any step; a value that is not finite does not count."""

    def __init__(self, model: nn.Module) -> None:
        """Knows the weights that are trained."""
        self._parts: dict[str, list[nn.Parameter]] = {}
        self.weights = sum(value.numel() for value in model.parameters())
        for name, value in model.named_parameters():
            if value.requires_grad:
                self._parts.setdefault(".".join(name.split(".")[:DEPTH]), []).append(value)
        self.trained = sum(value.numel() for values in self._parts.values() for value in values)
        self.norms = dict.fromkeys(self._parts, 0.0)

    @torch.no_grad()
    def look(self, scale: float = 1.0) -> None:
        """Looks at the gradients, which are ``scale`` times too large."""
        for part, values in self._parts.items():
            norms = [value.grad.float().norm() / scale for value in values if value.grad is not None]
            if norms:
                norm = torch.stack(norms).nan_to_num(0.0, 0.0, 0.0).norm()
                self.norms[part] = max(self.norms[part], float(norm))


def overfit(
    model: nn.Module,
    images: int,
    listener: Listener,
    *,
    gradients: Callable[[], float],
    scale: Callable[[], float],
    step: Callable[[int], None],
    chance: float | None = None,
) -> BatchTrial:
    """Trains on one batch until `visionloop.training.trial.is_enough`.

    Args:
        model: The model.
        images: Images of the batch.
        listener: Told of each step.
        gradients: Computes the gradients of the batch and returns its loss.
        scale: By how much they are scaled up.
        step: Makes a step, counted from 0, and clears the gradients.
        chance: As `BatchTrial` has it.
    """
    watch = Gradients(model)
    losses: list[float] = []
    while True:
        losses.append(gradients())
        if len(losses) > 1:
            listener.batch(1, len(losses) - 1, trial.STEPS)
        if trial.is_enough(losses):
            return BatchTrial(losses, watch.norms, watch.weights, watch.trained, images, chance)
        watch.look(scale())
        step(len(losses) - 1)
