"""A folder of weights as the library saves it: a configuration and the tensors. Importing this module imports torch."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidConfig, shortened
from visionloop.training.pytorch.starting import Starting
from visionloop.training.trainers.transformers import names
from visionloop.training.trainers.transformers.environment import library
from visionloop.training.trainers.transformers.model import configuration_of


def read(folder: Path, weights: str) -> tuple[str, dict[str, Any], Starting]:
    """Reads a folder of weights. Nothing in it is executed.

    Args:
        folder: With ``config.json`` and the tensors.
        weights: The weights as they were asked for.

    Returns:
        The family of the model, its configuration as `Description.configuration`, and its tensors with their classes.

    Raises:
        InvalidConfig: If the configuration can't be read or is of another kind of model, or the tensors can't be read or are not its own.
    """
    values = _configuration(folder / "config.json", weights)
    family = str(values.get("model_type"))
    if family not in names.FAMILIES:
        raise InvalidConfig(
            f"the starting weights {weights} are of the kind {family} by their config.json, and the trainer transformers trains "
            f"{', '.join(sorted(names.FAMILIES))}: choose others."
        )
    classes = _classes(values, weights)
    try:
        whole = configuration_of(family, values)
    except ValueError as error:
        raise InvalidConfig(
            f"config.json of the starting weights {weights} is not one of {family} ({shortened(str(error), 200)}): put the right one there."
        ) from error
    import torch
    from safetensors import SafetensorError

    try:
        model, report = getattr(library(), names.FAMILIES[family][1]).from_pretrained(
            str(folder),
            num_labels=_rows(values),
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        ImportError,
        OSError,
    ) as error:
        raise InvalidConfig(
            f"the starting weights {weights} can't be read: give a folder with the config.json and the model.safetensors of one model, as "
            "its save_pretrained writes them."
        ) from error
    # What the folder lacks has random numbers in the library's model.
    absent = {*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])}
    tensors = {name: value for name, value in model.state_dict().items() if name not in absent}
    return family, whole, Starting(weights, tensors, classes)


def _configuration(path: Path, weights: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidConfig(
            f"config.json of the starting weights {weights} is not a JSON object: put the right one there."
        )
    return values


def _classes(values: Mapping[str, Any], weights: str) -> list[str]:
    """Class names by index; none where the configuration has no names of its own."""
    named = values.get("id2label") or {}
    try:
        by_number = {int(number): str(name) for number, name in dict(named).items()}
    except (TypeError, ValueError):
        raise InvalidConfig(
            f"config.json of the starting weights {weights} has an id2label that is not class names by number: correct it."
        ) from None
    if sorted(by_number) != list(range(len(by_number))):
        raise InvalidConfig(
            f"config.json of the starting weights {weights} has an id2label whose numbers are not 0 to {len(by_number) - 1}: correct it."
        )
    classes = [by_number[number] for number in range(len(by_number))]
    # What the library writes for classes without names.
    return [] if all(name == f"LABEL_{number}" for number, name in enumerate(classes)) else classes


def _rows(values: Mapping[str, Any]) -> int:
    """The number of the configuration's classes; the library's is two where it says nothing."""
    return len(values.get("id2label") or {}) or int(values.get("num_labels") or 2)
