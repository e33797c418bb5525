"""A classifier in training. Importing this module imports torch and timm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from visionloop.core.errors import InvalidConfig
from visionloop.training.pytorch.images.classifier import ClassifierLearner, Transform
from visionloop.training.pytorch.starting import Head, Starting, described, fill, read
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.timm import names
from visionloop.training.trainers.timm.environment import library
from visionloop.training.trainers.timm.model import Description

#: The library's name of the position embedding.
POSITIONS = "pos_embed"


class TimmLearner(ClassifierLearner[Description]):
    """What the loop trains."""

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and lists the images.

        Raises:
            InvalidConfig: If the architecture is unknown or does not classify, or the starting weights are not its own.
            InvalidDataset: If a split has no image.
        """
        config = job.config
        weights = read(job.weights, str(config["model"])) if job.weights else None
        about = Description.of(_architecture(job, weights), job.classes, int(config["imgsz"]), config["crop_pct"])
        model = about.build(drop_rate=float(config["drop_rate"]), drop_path_rate=float(config["drop_path_rate"]))
        heads = about.heads(model)
        if weights:
            fill(model, _resampled(weights, model), list(map(Head, heads)), job.classes)
        if config["freeze"] == "backbone":
            for name, parameter in model.named_parameters():
                parameter.requires_grad = name in heads
        super().__init__(job, device, listener, about, model)
        self._smoothing, self._mixup = float(config["label_smoothing"]), _mixup(config, len(job.classes))
        balanced = config["class_weights"] == "balanced"
        self._weights = _balanced(self.samples.labels, len(job.classes)).to(device) if balanced else None

    def augmented(self) -> Transform:
        """How a picture is prepared for training, by the settings of augmentation."""
        config = self.job.config
        return self.about.training_transform(config) if config["augment"] else self.about.transform()

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The cross entropy, of blended labels where images were blended."""
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        target = labels
        if self._mixup is not None:
            images, target = self._blended(self._mixup, images, labels)
        loss = nn.functional.cross_entropy(
            self.about.scores(self.model, images),
            target,
            self._weights,
            label_smoothing=0.0 if self._mixup else self._smoothing,
        )
        return {"loss": loss}

    def _blended(self, mixup: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images and their labels, blended in pairs; the last of an odd number stays as it is."""
        even, classes = len(images) // 2 * 2, len(self.about.classes)
        off = self._smoothing / classes
        target = torch.full((len(images), classes), off, device=images.device)
        target.scatter_(1, labels[:, None], 1.0 - self._smoothing + off)
        if even:
            # Pairs are formed by turning the batch round, in place.
            _, target[:even] = mixup(images[:even], labels[:even])
        return images, target


def _architecture(job: TrainingJob, weights: Starting | None) -> str:
    """The architecture of a job's model: that of the weights, where they say it; else by the model's or the file's name."""
    if weights and (values := described(weights, Description, "timm", job.task)):
        return str(values["architecture"])
    model = str(job.config["model"])
    stem = job.weights.name.removesuffix(job.weights.suffix) if job.weights else ""
    name = names.architecture(model) or names.architecture(stem)
    if name is None:
        raise InvalidConfig(
            f"the starting weights {model} do not say of which architecture they are: name the file for it, as in resnet18.pth."
        )
    return name


def _resampled(weights: Starting, model: nn.Module) -> Starting:
    """Weights with the position embedding scaled to the model's grid, where they are of another image size."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    embedding, own = weights.tensors.get(POSITIONS), model.state_dict().get(POSITIONS)
    if grid is None or embedding is None or own is None or embedding.ndim != 3 or own.ndim != 3:
        return weights
    # The rows of the prefix tokens (class, registers) come before those of the grid.
    first = own.shape[1] - math.prod(grid)
    cells = embedding.shape[1] - first
    if embedding.shape == own.shape or first < 0 or cells < 1 or math.isqrt(cells) ** 2 != cells:
        return weights
    scaled = library().layers.resample_abs_pos_embed(embedding, list(grid), num_prefix_tokens=first)
    return replace(weights, tensors={**weights.tensors, POSITIONS: scaled})


def _mixup(config: Any, classes: int) -> Any:
    """What blends images, or None where nothing is blended."""
    mixup, cutmix = float(config["mixup_alpha"]), float(config["cutmix_alpha"])
    if not mixup and not cutmix:
        return None
    return library().data.Mixup(
        mixup_alpha=mixup,
        cutmix_alpha=cutmix,
        prob=float(config["mixup_prob"]),
        switch_prob=float(config["mixup_switch_prob"]),
        label_smoothing=float(config["label_smoothing"]),
        num_classes=classes,
    )


def _balanced(labels: Sequence[int], classes: int) -> Tensor:
    """By class the inverse of its number of images, in the mean over images 1; a class without an image has 0."""
    counts = torch.bincount(torch.tensor(labels), minlength=classes).float()
    present = counts > 0
    return torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 0.0)
