"""A detector in training. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionloop.core.errors import InvalidConfig
from visionloop.training.pytorch.failures import has
from visionloop.training.pytorch.objects.detector import as_inputs
from visionloop.training.pytorch.objects.learner import DetectorLearner
from visionloop.training.pytorch.objects.pictures import Targets
from visionloop.training.pytorch.starting import Starting, described, fill, read
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.transformers import folder, names
from visionloop.training.trainers.transformers.model import Description, configuration_of, heads
from visionloop.training.trainers.transformers.settings import check_size

#: The library's names of the parts of its loss, and ours.
LOSSES = {
    "loss_vfl": "cls_loss",
    "loss_bbox": "box_loss",
    "loss_giou": "giou_loss",
    "loss_fgl": "fgl_loss",
    "loss_ddf": "ddf_loss",
}


#: What the library's matching says of numbers that are not finite, before there is a loss.
_NOT_FINITE = ("must be in [x0, y0, x1, y1]",)


class TransformersLearner(DetectorLearner[Description]):
    """What the loop trains."""

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and reads the labels.

        Raises:
            InvalidConfig: If the starting weights are not this trainer's, or the pictures too small for the model.
            InvalidDataset: If a split has no image.
        """
        config, side = job.config, int(job.config["imgsz"])
        family, configuration, weights = _start(job)
        about = Description(
            family=family,
            configuration=configuration,
            task=job.task,
            classes=list(job.classes),
            imgsz=side,
            max_det=int(config["max_det"]),
        )
        check_size(configuration, side)
        model = about.build()
        if weights:
            fill(model, weights, heads(model), job.classes)
        if config["freeze"] == "backbone":
            model.model.backbone.requires_grad_(False)  # type: ignore[union-attr]
        super().__init__(job, device, listener, about, model)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The parts of the library's loss, which averages them over the objects."""
        pictures, objects, _ = batch
        labels = [target(of, self.about.imgsz, self.device) for of in objects]
        try:
            return parts(self.model(pixel_values=as_inputs(pictures, self.device), labels=labels).loss_dict)
        except ValueError as error:
            if not has(str(error), _NOT_FINITE):
                raise
            # The loop says that the training diverged.
            return {"cls_loss": torch.full((), torch.nan, device=self.device)}


def parts(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The library's losses by our names: each the sum over the decoder's layers and over true and noisy objects.

    Args:
        losses: ``loss_vfl`` of the last layer, ``loss_vfl_aux_0`` … of the others, ``loss_vfl_dn_0`` … of the noisy objects, and so on.
    """
    sums: dict[str, Tensor] = {}
    for name, value in losses.items():
        ours = LOSSES["_".join(name.split("_")[:2])]
        sums[ours] = sums[ours] + value if ours in sums else value
    return sums


def target(objects: Targets, side: int, device: torch.device) -> dict[str, Tensor]:
    """Objects as the library's models take them: centre and sides as shares of the input.

    Objects without an area are left out.

    Args:
        objects: The objects of an input.
        side: Of the input.
        device: Where the tensors are put.
    """
    corners = objects.boxes.reshape(-1, 2, 2).astype(np.float32) / np.float32(side)
    sides = corners[:, 1] - corners[:, 0]
    boxes = np.concatenate([corners.mean(1), sides], axis=1)
    kept = (sides > 0).all(1)
    return {
        "class_labels": torch.from_numpy(objects.classes[kept].astype(np.int64)).to(device),
        "boxes": torch.from_numpy(boxes[kept]).to(device),
    }


def _start(job: TrainingJob) -> tuple[str, dict[str, Any], Starting | None]:
    """The family and the configuration of a job's model, and its weights."""
    model = str(job.config["model"])
    if job.weights is None:
        family, changes = names.ARCHITECTURES[names.architecture(model) or names.DEFAULT]
        # The library keeps the backbone's normalisations as they are, which random ones can't bear.
        return family, configuration_of(family, {**changes, "freeze_backbone_batch_norms": False}), None
    if job.weights.is_dir():
        return folder.read(job.weights, model)
    weights = read(job.weights, model)
    values = described(weights, Description, "transformers", job.task)
    if values is None:
        raise InvalidConfig(
            f"the starting weights {model} are of one file without a configuration: give a folder with config.json and "
            "model.safetensors, or a model that this trainer trained."
        )
    return str(values["family"]), dict(values["configuration"]), weights
