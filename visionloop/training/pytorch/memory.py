"""Asks a model and its GPU whether they fit (`visionloop.training.preflight.memory`). Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visionloop.training.preflight import memory


def check_memory(
    model: nn.Module, device: torch.device, config: Mapping[str, Any], *, trained: bool, averaged: bool, batch: int
) -> None:
    """Refuses a model that certainly does not fit onto its device; it is still elsewhere. The memory of a CPU is not asked.

    Args:
        model: The model.
        device: Where it is to be trained.
        config: The training's configuration.
        trained: Whether its ``requires_grad`` already says what is trained.
        averaged: Whether a moving average of the weights is kept.
        batch: Images of a batch on this device.

    Raises:
        InvalidConfig: If it takes more than the GPU has.
        SickMachine: If it takes more than others have left.
    """
    if device.type != "cuda":
        return
    weights = _bytes([*model.parameters(), *model.buffers()])
    own = _bytes(value for value in model.parameters() if value.requires_grad) if trained else 0
    free, total = torch.cuda.mem_get_info(device)
    memory.check(
        memory.Least.of(config, weights=weights, trained=own, averaged=averaged, batch=batch), free, total, config
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)
