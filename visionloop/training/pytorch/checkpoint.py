"""Checkpoints to resume from: everything that the next epoch depends on, as plain values and tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidReceipt
from visionloop.core.files import atomic_write

#: The layout of an epoch's checkpoint, and of one within an epoch; one with another layout can't be resumed from.
FORMAT = 1
WITHIN_EPOCH = 2


def write(state: Mapping[str, Any], path: Path, layout: int = FORMAT) -> None:
    """Writes the state of a finished epoch, or with the layout ``WITHIN_EPOCH`` one within an epoch; whole or not at all."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    # Given a path, torch would name the archive after it, and this name is random.
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save({"format": layout, **state}, file)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote, its tensors on the CPU; only plain values and tensors are unpickled.

    Raises:
        InvalidReceipt: If `write` did not write the file, or it is damaged.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InvalidReceipt(
            f"The checkpoint {path} can't be read: remove it, and the training starts from an earlier one."
        ) from error
    if not isinstance(state, dict) or state.get("format") not in (FORMAT, WITHIN_EPOCH):
        raise InvalidReceipt(
            f"The checkpoint {path} has another layout than {FORMAT}: remove it, and the training starts anew."
        )
    return state


def is_finished(state: Mapping[str, Any], epochs: int) -> bool:
    """Whether a state is the last one of a training of so many epochs: all are done, or it was stopped early."""
    return bool(state["finished"]) or state["epoch"] >= epochs
