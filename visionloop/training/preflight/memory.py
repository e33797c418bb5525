"""Whether a model can fit into a GPU's memory: what its training takes at the least, before a single activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.errors import InvalidConfig, SickMachine

#: Optimizers that keep two numbers for each weight; others keep one where there is momentum.
_TWO = ("adam", "adamax", "adamw", "nadam", "radam")

#: Bytes of a pixel of an input: three channels of four bytes.
_PIXEL = 12


@dataclass(frozen=True)
class Least:
    """What a training takes of a GPU's memory at the least, in bytes.

    Attributes:
        model: Weights, their moving average, gradients and the optimizer's numbers.
        inputs: The images of a batch.
    """

    model: int
    inputs: int

    @classmethod
    def of(cls, config: Mapping[str, Any], *, weights: int, trained: int, averaged: bool, batch: int) -> Least:
        """What a configuration takes.

        Args:
            config: ``optimizer``, ``momentum`` and ``imgsz`` are used.
            weights: Bytes of all weights and buffers.
            trained: Bytes of the weights that are trained, as far as they are known.
            averaged: Whether a moving average of the weights is kept beside them.
            batch: Images of a batch on one device.
        """
        kept = 2 if str(config["optimizer"]).lower() in _TWO else int(bool(config.get("momentum")))
        model = weights * (1 + averaged) + trained * (1 + kept)
        return cls(model, batch * int(config["imgsz"]) ** 2 * _PIXEL)


def check(least: Least, free: int, total: int, config: Mapping[str, Any]) -> None:
    """Refuses a training that certainly does not fit into the GPU's memory.

    Args:
        least: What it takes.
        free: Bytes that are free.
        total: Bytes that the GPU has.
        config: ``model``, ``batch`` and ``imgsz`` are named.

    Raises:
        InvalidConfig: If it takes more than the GPU has, whatever else is done there.
        SickMachine: If it takes more than others have left.
    """
    if least.model > total:
        raise InvalidConfig(
            f"model {config['model']} takes at least {_gib(least.model)} in training, and the GPU has {_gib(total)}: give a smaller model, "
            "or a larger GPU."
        )
    whole = least.model + least.inputs
    if whole > total:
        raise InvalidConfig(
            f"model {config['model']} with the images of a batch takes at least {_gib(whole)}, and the GPU has {_gib(total)}: lower batch "
            f"({config['batch']}) or imgsz ({config['imgsz']})."
        )
    if whole > free:
        raise SickMachine(
            f"model {config['model']} takes at least {_gib(whole)} in training, and other processes have left {_gib(free)} of the GPU's "
            f"{_gib(total)}: end them (nvidia-smi lists them), or use another GPU."
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
