"""What of starting weights a training goes on from: classes are found again by their names, not by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visionloop.core.logs import notice
from visionloop.training import starting as classes_of

#: The standard deviation of the weights of a class that is new.
FRESH = 0.01


def tell(weights: Any, name: str, classes: Sequence[str], keypoints: Sequence[str]) -> None:
    """Says which classes go on from the starting weights, which are new and which are dropped, and where keypoints begin anew.

    Args:
        weights: The loaded model that the training starts from.
        name: The weights as they were asked for.
        classes: The dataset's class names by index.
        keypoints: The dataset's keypoints, for pose.
    """
    shape = getattr(weights, "kpt_shape", None)
    if shape and keypoints and shape[0] != len(keypoints):
        notice(
            f"train: the starting weights {name} find {shape[0]} keypoints and the dataset has {len(keypoints)}, so what finds "
            "them is trained anew; the rest goes on from the weights."
        )
    classes_of.tell(name, _names(weights), classes)


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
        for index, row in enumerate(classes_of.rows(names, classes)):
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
