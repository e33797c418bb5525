"""A detector in training. Importing this module imports torch and torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import (
    FCOS_ResNet50_FPN_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.training.pytorch.objects.detector import as_inputs
from visionloop.training.pytorch.objects.learner import DetectorLearner
from visionloop.training.pytorch.starting import Starting, described, fill, read
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.torchvision import names
from visionloop.training.trainers.torchvision.model import Description
from visionloop.training.trainers.torchvision.targets import target

#: The library's names of the parts of its loss, and ours.
LOSSES = {
    "classification": "cls_loss",
    "bbox_regression": "box_loss",
    "bbox_ctrness": "centre_loss",
    "loss_classifier": "cls_loss",
    "loss_box_reg": "box_loss",
    "loss_mask": "mask_loss",
    "loss_keypoint": "pose_loss",
    "loss_objectness": "proposal_loss",
    "loss_rpn_box_reg": "proposal_box_loss",
}

#: By family the weights that the library publishes; each names its rows.
PUBLISHED = {
    "fcos": FCOS_ResNet50_FPN_Weights.COCO_V1,
    "maskrcnn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "keypointrcnn": KeypointRCNN_ResNet50_FPN_Weights.COCO_V1,
}


class TorchvisionLearner(DetectorLearner[Description]):
    """What the loop trains."""

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and reads the labels.

        Raises:
            InvalidConfig: If the starting weights are not the architecture's, or of another task.
            InvalidDataset: If a split has no image.
        """
        config = job.config
        weights = read(job.weights, str(config["model"])) if job.weights else None
        about = Description(
            architecture=_architecture(job, weights),
            task=job.task,
            classes=list(job.classes),
            imgsz=int(config["imgsz"]),
            keypoints=list(job.keypoints),
            iou=float(config["iou"]),
            max_det=int(config["max_det"]),
        )
        model = about.build(float(config["conf"]))
        if weights:
            _tell_keypoints(weights, job.keypoints)
            fill(model, _named(weights, about), about.heads(), job.classes)
        if config["freeze"] == "backbone":
            model.backbone.body.requires_grad_(False)  # type: ignore[union-attr]
        super().__init__(job, device, listener, about, model)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The parts of the library's loss."""
        pictures, objects, _ = batch
        about = self.about
        targets = [target(of, about.task, about.imgsz, about.background, self.device) for of in objects]
        losses: dict[str, Tensor] = self.model(list(as_inputs(pictures, self.device)), targets)
        return {LOSSES[name]: value for name, value in losses.items()}


def _architecture(job: TrainingJob, weights: Starting | None) -> str:
    """The architecture of a job's model: that of the weights, where they say it; else by the model's or the file's name."""
    model = str(job.config["model"])
    if weights and (values := described(weights, Description, "torchvision", job.task)):
        return str(values["architecture"])
    parts = names.split(model)
    name = "_".join(parts) if parts else names.architecture_of_file(job.weights.name) if job.weights else None
    if name is None:
        raise InvalidConfig(
            f"the starting weights {model} do not say of which architecture they are: name the file for it, as in fcos_resnet50_fpn.pth."
        )
    if names.model_task(name) != job.task:
        raise InvalidConfig(
            f"the starting weights {model} are for {names.model_task(name)}, not for {job.task}: choose others."
        )
    return name


def _named(weights: Starting, about: Description) -> Starting:
    """Weights with the class names of COCO, where they are as those that the library publishes: these have as many rows."""
    if weights.description is not None:
        return weights
    published: Sequence[str] = PUBLISHED[about.family].meta["categories"]
    scores = weights.tensors.get(about.heads()[0].tensor)
    if scores is None or len(scores) != len(published):
        return weights
    return replace(weights, classes=published[about.background :])


def _tell_keypoints(weights: Starting, keypoints: Sequence[str]) -> None:
    """Says where keypoints begin anew, because the weights have others."""
    own = (weights.description or {}).get("keypoints")
    if keypoints and own is not None and list(own) != list(keypoints):
        if len(own) == len(keypoints):
            notice(
                f"train: the starting weights {weights.name} name their keypoints {', '.join(own)}, and the dataset "
                f"{', '.join(keypoints)}: they go on in this order."
            )
        else:
            notice(
                f"train: the starting weights {weights.name} find {len(own)} keypoints and the dataset has {len(keypoints)}, so what "
                "finds them is trained anew; the rest goes on from the weights."
            )
