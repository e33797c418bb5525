"""Model files: weights as safetensors, with a description of the model in the file's header. Nothing in them is ever executed.

A model file holds nothing that differs between equal trainings: no date, path, host, optimizer or history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from visionloop.core.errors import InvalidConfig, InvalidReceipt

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The header's only key: with two or more the library writes them in an order that changes from one file to the next.
HEADER = "visionloop"

#: The name of a model file.
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Description:
    """What a model file says of its model: all that is needed to build it again. A library's own class adds to it.

    Attributes:
        classes: Class names by index.
        imgsz: Side of the square input in pixels.
    """

    classes: Sequence[str]
    imgsz: int

    def as_json(self) -> dict[str, Any]:
        """The description as JSON knows it."""
        return asdict(self)


About = TypeVar("About", bound=Description)


def write(weights: Mapping[str, torch.Tensor], description: Mapping[str, Any], path: Path) -> Path:
    """Writes a model file; equal weights and descriptions give equal bytes.

    Args:
        weights: The tensors by name.
        description: What is needed to build the model again, as JSON knows it.
        path: The file to write.
    """
    from safetensors.torch import save

    # Of views that share memory, the library would refuse all but one.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in sorted(weights.items())}
    path.write_bytes(save(tensors, {HEADER: json.dumps(description, sort_keys=True, ensure_ascii=False)}))
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The description and the weights of a model file.

    Raises:
        InvalidReceipt: If `write` did not write the file, or it is damaged.
    """
    description = describe(path)
    if description is None:
        raise unusable(path)
    from safetensors.torch import load_file

    return description, load_file(path)


def load(
    path: Path,
    description: Callable[..., About],
    build: Callable[[About], nn.Module],
    changes: Mapping[str, Any] | None = None,
) -> tuple[About, nn.Module]:
    """The description and the model of a model file, ready to predict.

    Args:
        path: The model file.
        description: The library's own class.
        build: Makes a model with random weights.
        changes: Values that replace the description's in the file.

    Raises:
        InvalidReceipt: If it is not a model file, or one of another library.
    """
    values, weights = read(path)
    try:
        about = description(**{**values, **(changes or {})})
        model = build(about)
        model.load_state_dict(weights)
    except (TypeError, KeyError, RuntimeError, ValueError, InvalidConfig) as error:
        raise unusable(path) from error
    return about, model.eval()


def unusable(path: Path) -> InvalidReceipt:
    """The error for a file that is not the model that it should be."""
    return InvalidReceipt(f"The model {path} can't be loaded: train it again.")


def describe(path: Path) -> dict[str, Any] | None:
    """The description in a model file; None for a file that `write` did not write."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})[HEADER])
    except (SafetensorError, KeyError, ValueError, OSError):
        return None
    return description if isinstance(description, dict) else None
