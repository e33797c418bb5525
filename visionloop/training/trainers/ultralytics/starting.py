"""What of starting weights a training goes on from: classes are found again by their names, not by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visionloop.core.logs import notice
from visionloop.data.sentences import printable

#: How many names a notice lists.
NAMED = 5

#: The standard deviation of the weights of a class that is new.
FRESH = 0.01


def tell(weights: Any, given: str, classes: Sequence[str], keypoints: Sequence[str]) -> None:
    """Says which classes go on from the starting weights, which are new and which are dropped, and where keypoints begin anew.

    Args:
        weights: The loaded model that the training starts from.
        given: The weights as they were asked for.
        classes: The dataset's class names by index.
        keypoints: The dataset's keypoints, for pose.
    """
    shape = getattr(weights, "kpt_shape", None)
    if shape and keypoints and shape[0] != len(keypoints):
        notice(
            f"train: the starting weights {given} find {shape[0]} keypoints and the dataset has {len(keypoints)}, so what finds "
            "them is trained anew; the rest goes on from the weights."
        )
    names = _names(weights)
    if not names:
        return
    found = rows(names, classes)
    new = [name for name, row in zip(classes, found, strict=True) if row is None]
    dropped = [name for index, name in sorted(names.items()) if index not in found]
    if new or dropped:
        notice(
            f"train: of the classes of the starting weights {given} {len(classes) - len(new)} go on by their names; "
            f"{_listed(new)} new, {_listed(dropped)} dropped."
        )


def rows(names: Mapping[int, str], classes: Sequence[str]) -> list[int | None]:
    """The index in the starting weights of each class: by its exact name, else without case and white space at its ends."""
    exact = {name: index for index, name in sorted(names.items(), reverse=True)}
    loose = {_plain(name): index for index, name in sorted(names.items(), reverse=True)}
    return [exact.get(name, loose.get(_plain(name))) for name in classes]


def map_classes(model: Any, weights: Any, classes: Sequence[str]) -> None:
    """Copies the rows of a classifier's last layer by the classes' names; the library copies those of objects so, but not these.

    Args:
        model: The model that is trained.
        weights: The loaded model that it starts from.
        classes: The dataset's class names by index.
    """
    names, target, source = _names(weights), _last_layer(model), _last_layer(weights)
    if not names or target is None or source is None or target.weight.shape[1] != source.weight.shape[1]:
        return
    import torch

    with torch.no_grad():
        for index, row in enumerate(rows(names, classes)):
            if row is None:
                # Of as many classes the library copies the rows by their numbers: this one was another class's.
                torch.nn.init.normal_(target.weight[index], std=FRESH)
                target.bias[index] = 0
            else:
                target.weight[index] = source.weight[row].to(target.weight.dtype)
                target.bias[index] = source.bias[row].to(target.bias.dtype)


def _names(weights: Any) -> dict[int, str]:
    """The class names of a model; empty for those that are only its numbers."""
    names = getattr(weights, "names", None)
    if not isinstance(names, dict) or all(str(index) == str(name) for index, name in names.items()):
        return {}
    return {int(index): str(name) for index, name in names.items()}


def _last_layer(model: Any) -> Any:
    layers = getattr(model, "model", None)
    return getattr(layers[-1], "linear", None) if layers is not None else None


def _plain(name: str) -> str:
    return name.strip().lower()


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none is"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(printable, names[:NAMED]))}{more} {'is' if len(names) == 1 else 'are'}"
