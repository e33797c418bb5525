"""Model files, which the library loads by their paths.

A model file holds nothing that differs between equal trainings: no date, path, host, optimizer or history.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import InvalidReceipt
from visionloop.core.folders import temporary_folder
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.tasks import TASKS, task_of_library

if TYPE_CHECKING:
    import torch

#: The licence of weights, as the library writes it into its own checkpoints.
LICENSE = "AGPL-3.0 (https://ultralytics.com/license)"


def architecture(model: Any) -> str:
    """The architecture of a model as JSON, without the folder of its YAML file."""
    description = dict(model.yaml)
    description["yaml_file"] = Path(str(description.get("yaml_file", ""))).name
    return json.dumps(description)


def half(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of a model's state on the CPU with its floats in half precision, as a model file holds them."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}
    return {name: value.half() if value.is_floating_point() else value for name, value in copies.items()}


def write_model(state: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes a model file that the library loads by its path; equal weights give equal bytes.

    The model is always rebuilt from its architecture, never pickled as training left it: what pickle writes depends on
    which objects are shared.

    Args:
        state: A checkpoint's state: ``architecture``, ``names``, ``task``, ``imgsz``, ``single_cls`` are used.
        weights: The model's state in half precision.
        path: The file to write.
    """
    import torch

    description = json.loads(state["architecture"])
    model_class = TASKS[task_of_library(state["task"])].model_class()
    model = model_class(description, ch=description["channels"], nc=len(state["names"]), verbose=False)
    model.load_state_dict(weights)
    model.half().eval().requires_grad_(False)
    model.nc = len(state["names"])
    model.names = dict(enumerate(state["names"]))
    model.task = state["task"]
    if state.get("keypoints"):
        # By class index, as the library keeps them; the names are those of every class.
        model.kpt_names = {index: list(state["keypoints"]) for index in range(model.nc)}
    arguments = {"task": state["task"], "imgsz": state["imgsz"], "single_cls": state["single_cls"]}
    model.args = dict(arguments)
    buffer = io.BytesIO()  # given a path, torch would name the archive after it
    torch.save({"epoch": -1, "license": LICENSE, "model": model, "train_args": arguments}, buffer)
    path.write_bytes(buffer.getvalue())


def class_names(model: Any) -> tuple[str, ...]:
    """A model's class names by index, as they are: through ``YOLO.names`` the library gives ImageNet's codes other names."""
    return tuple(model.names[index] for index in range(len(model.names)))


def keypoint_names(model: Any) -> tuple[str, ...]:
    """The names of a model's keypoints in their order; empty where it has none."""
    names = getattr(model, "kpt_names", None)
    return tuple(map(str, names[0])) if names else ()


def load_model(path: Path) -> Any:
    """A model file as the library's ``YOLO`` object, for inference.

    Raises:
        InvalidReceipt: If the library can't load the file as a model.
    """
    loader = library().YOLO
    with temporary_folder("model") as folder:
        # The library recognises kinds of files, and old weights, by their names.
        link = folder / "model.pt"
        link.symlink_to(path.absolute())
        try:
            return loader(str(link))
        except (TypeError, RuntimeError, KeyError, AttributeError, EOFError, pickle.UnpicklingError, OSError) as error:
            raise InvalidReceipt(f"The model {path} can't be loaded: train it again.") from error
