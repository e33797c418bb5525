"""A classifier in training. Importing this module imports torch and timm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from visionloop.core.errors import InvalidConfig
from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.loop import batches_of
from visionloop.training.pytorch.starting import Head, Starting, fill, read
from visionloop.training.pytorch.training import loading_workers
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.timm import names
from visionloop.training.trainers.timm.dataset import ClassFolders
from visionloop.training.trainers.timm.environment import library
from visionloop.training.trainers.timm.model import Description


class Classifier:
    """What the loop trains; the protocol is `visionloop.training.pytorch.loop.Learner`."""

    measures = True

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and lists the images.

        Raises:
            InvalidConfig: If the architecture is not known, or the starting weights are not its own.
            InvalidDataset: If a split has no image.
        """
        config = job.config
        self._device, self._classes = device, job.classes
        weights = read(job.weights, str(config["model"])) if job.weights else None
        self._about = Description.of(_architecture(job, weights), job.classes, int(config["imgsz"]), config["crop_pct"])
        self.model = self._about.build(
            drop_rate=float(config["drop_rate"]), drop_path_rate=float(config["drop_path_rate"])
        )
        classifier = self.model.get_classifier()  # type: ignore[operator]
        head = [name for name, module in self.model.named_modules() if module is classifier]
        if weights:
            heads = [Head(f"{name}.{part}") for name in head for part in ("weight", "bias")]
            fill(self.model, weights, [row for row in heads if row.tensor in self.model.state_dict()], job.classes)
        if config["freeze"] == "backbone":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad = any(name.startswith(f"{start}.") for start in head)
        self.model.to(device)
        augmented = bool(config["augment"])
        transform = self._about.training_transform(config) if augmented else self._about.transform()
        samples = ClassFolders(job.dataset / "train", len(job.classes), transform)
        validation = ClassFolders(job.dataset / "val", len(job.classes), self._about.transform())
        listener.images("train", samples.files)
        listener.images("val", validation.files)
        workers, pinned = loading_workers(job), device.type == "cuda"
        self.train = TrainingBatches(
            samples,
            images=len(samples),
            effective=int(config["batch"]),
            batch=job.batch,
            seed=int(config.get("seed", 0)),
            workers=workers,
            pinned=pinned,
        )
        self._validation = DataLoader(validation, batch_size=job.batch, num_workers=workers, pin_memory=pinned)
        self.validation_batches = len(self._validation)
        self._smoothing, self._mixup = float(config["label_smoothing"]), _mixup(config, len(job.classes))
        balanced = config["class_weights"] == "balanced"
        self._weights = _balanced(samples.labels, len(job.classes)).to(device) if balanced else None

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The cross entropy, of blended labels where images were blended."""
        images, labels = batch[0].to(self._device, non_blocking=True), batch[1].to(self._device, non_blocking=True)
        target = labels
        if self._mixup is not None:
            images, target = self._blended(self._mixup, images, labels)
        outputs = self.model(images).float()
        loss = nn.functional.cross_entropy(
            outputs, target, self._weights, label_smoothing=0.0 if self._mixup else self._smoothing
        )
        return {"loss": loss}

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The accuracies and the loss on val."""
        measurement, total = ImageMeasurement(self._classes, "val"), 0.0
        for images, labels in batches_of(self._validation, on_batch):
            outputs = model(images.to(self._device)).float()
            total += float(nn.functional.cross_entropy(outputs, labels.to(self._device), reduction="sum"))
            measurement.add(outputs.softmax(1).cpu().numpy(), labels.numpy())
        return {**measurement.metrics(), "val_loss": total / len(measurement.true)}

    def description(self) -> dict[str, Any]:
        """What a model file says of the model."""
        return self._about.as_json()

    def _blended(self, mixup: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images and their labels, blended in pairs; the last of an odd number stays as it is."""
        even = len(images) // 2 * 2
        off = self._smoothing / len(self._classes)
        target = torch.full((len(images), len(self._classes)), off, device=images.device)
        target.scatter_(1, labels[:, None], 1.0 - self._smoothing + off)
        if even:
            # Pairs are formed by turning the batch round, in place.
            _, target[:even] = mixup(images[:even], labels[:even])
        return images, target


def learner(job: TrainingJob, device: torch.device, listener: Listener) -> Classifier:
    """A job's model with its data."""
    library()
    return Classifier(job, device, listener)


def _architecture(job: TrainingJob, weights: Starting | None) -> str:
    """The architecture of a job's model: that of the weights, where they say it; else by the model's or the file's name."""
    if weights and weights.description:
        if "architecture" not in weights.description or "crop_pct" not in weights.description:
            raise InvalidConfig(
                f"the starting weights {weights.given} are of another trainer than timm: choose others."
            )
        return str(weights.description["architecture"])
    given = str(job.config["model"])
    stem = job.weights.name.removesuffix(job.weights.suffix) if job.weights else ""
    name = names.architecture(given) or names.architecture(stem)
    if name is None:
        raise InvalidConfig(
            f"the starting weights {given} do not say of which architecture they are: name the file for it, as in resnet18.pth."
        )
    return name


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
