"""Starting weights in a model: tensors by their names and shapes, and the rows of a class by the class's name."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.training import starting
from visionloop.training.pytorch import models

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Under which names training scripts put a model's tensors into a checkpoint, those of its moving average first.
WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model")

#: What wrappers of a model put before the names of its tensors.
PREFIXES = ("module.", "_orig_mod.")

#: The least share of a model's tensors that its starting weights have.
LEAST = 0.5

#: What the name of a normalisation's counter of batches ends with: nothing is computed with it, and frozen ones have none.
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Head:
    """A tensor with rows for each class.

    Attributes:
        tensor: Its name.
        rows: Rows of one class.
        background: Rows before those of the classes.
    """

    tensor: str
    rows: int = 1
    background: int = 0


@dataclass(frozen=True)
class Starting:
    """Starting weights.

    Attributes:
        name: The weights as they were asked for.
        tensors: By name.
        classes: Class names by index; empty for a file that is not Visionloop's.
        description: What a model file of Visionloop's says of itself; None for another file.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    classes: Sequence[str] = ()
    description: Mapping[str, Any] | None = None


def read(path: Path, name: str) -> Starting:
    """Reads starting weights: a model file of Visionloop's, safetensors, or tensors that torch saved. Nothing in them is executed.

    Args:
        path: The file.
        name: The weights as they were asked for.

    Raises:
        InvalidConfig: If the file holds no tensors by name.
    """
    import torch
    from safetensors import SafetensorError

    try:
        description = models.describe(path)
        if description is not None:
            return Starting(name, models.read(path)[1], tuple(map(str, description.get("classes", ()))), description)
        if path.suffix == models.SUFFIX:
            from safetensors.torch import load_file

            return Starting(name, load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise InvalidConfig(
            f"the starting weights {name} can't be read as tensors by name: give a state_dict that torch.save wrote, or safetensors."
        ) from error
    tensors = _tensors(content)
    if not tensors:
        raise InvalidConfig(f"the starting weights {name} hold no tensors by name: give the state_dict of a model.")
    return Starting(name, tensors)


def described(weights: Starting, about: type[models.Description], trainer: str, task: str) -> Mapping[str, Any] | None:
    """What starting weights that are a model file of Visionloop's say of themselves; None for another file.

    Args:
        weights: The weights.
        about: The trainer's own class of what a model file says.
        trainer: Its name.
        task: Ours of what is trained.

    Raises:
        InvalidConfig: If they are of another trainer, or for another task.
    """
    values = weights.description
    if values is None:
        return None
    needed = {field.name for field in fields(about) if field.default is field.default_factory is MISSING}
    if not needed <= set(values):
        raise InvalidConfig(
            f"the starting weights {weights.name} are of another trainer than {trainer}: choose others."
        )
    if values.get("task", task) != task:
        raise InvalidConfig(
            f"the starting weights {weights.name} are for {values['task']}, not for {task}: choose others."
        )
    return values


def fill(model: nn.Module, weights: Starting, heads: Sequence[Head], classes: Sequence[str]) -> None:
    """Gives a model the tensors of starting weights, and says which classes go on and how many tensors begin anew.

    Args:
        model: The model, with random weights.
        weights: What it starts from.
        heads: Its tensors with rows for each class.
        classes: The dataset's class names by index.

    Raises:
        InvalidConfig: If the weights have less than half of the model's other tensors.
    """
    import torch

    own, by_class = model.state_dict(), {head.tensor: head for head in heads}
    fitting = [
        name
        for name in own
        if name not in by_class and name in weights.tensors and weights.tensors[name].shape == own[name].shape
    ]
    body = [name for name in own if name not in by_class and (name in fitting or not name.endswith(COUNTER))]
    if len(fitting) < LEAST * len(body):
        raise InvalidConfig(
            f"of the {len(body)} tensors of this model the starting weights {weights.name} have {len(fitting)}: they are of another "
            "architecture; give weights of this one, or another model."
        )
    if len(fitting) < len(body):
        _tell(weights, body, fitting)
    rows = starting.rows(dict(enumerate(weights.classes)), classes)
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(weights.tensors[name])
        for name, head in by_class.items():
            if weights.classes and name in weights.tensors:
                _fill_rows(own[name], weights.tensors[name], head, rows)
    starting.tell(weights.name, dict(enumerate(weights.classes)), classes)
    if not weights.classes:
        notice(f"train: the starting weights {weights.name} name no classes, so what tells classes apart begins anew.")


def _tell(weights: Starting, body: Sequence[str], fitting: Sequence[str]) -> None:
    """Says which of the model's tensors begin anew: those that the weights lack, and those that they have in another shape."""
    anew = [name for name in body if name not in fitting]
    shaped = [name for name in anew if name in weights.tensors]
    lacking = f"lack {len(anew) - len(shaped)}" if len(shaped) < len(anew) else ""
    named = ", ".join(shaped[:3]) + (" …" if len(shaped) > 3 else "")
    other = f"have {len(shaped)} in another shape ({named})" if shaped else ""
    what = ", and ".join(filter(None, (lacking, other)))
    begin = "it begins" if len(anew) == 1 else "they begin"
    notice(f"train: of the model's {len(body)} tensors the starting weights {weights.name} {what}: {begin} anew.")


def _fill_rows(target: torch.Tensor, source: torch.Tensor, head: Head, rows: Sequence[int | None]) -> None:
    if target.shape[1:] != source.shape[1:]:
        return
    target[: head.background] = source[: head.background]
    for index, row in enumerate(rows):
        if row is not None:
            to, of = (head.background + number * head.rows for number in (index, row))
            target[to : to + head.rows] = source[of : of + head.rows]


def _tensors(content: object) -> dict[str, Any]:
    import torch

    if not isinstance(content, dict):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict) and (tensors := _tensors(content[wrapper])):
            return tensors
    tensors = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            for prefix in PREFIXES:
                name = name.removeprefix(prefix)
            tensors[name] = value
    return tensors
