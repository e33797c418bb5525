"""The model, its images, its evaluation and its predictions. Importing this module imports torch and transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import Undecodable, decode
from visionloop.training.measurement.images import ImageMeasurement
from visionloop.training.pytorch import models
from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.loading import TrainingBatches
from visionloop.training.pytorch.loop import batches_of
from visionloop.training.pytorch.training import loading_workers, torch_device
from visionloop.training.trainers import Evaluation, Listener, Prediction, PredictionSettings, TrainingJob

# Nothing is fetched or sent; the library reads these when it is imported.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification


def build(architecture: str, classes: Sequence[str], imgsz: int) -> nn.Module:
    """A model with random weights, small enough for a processor."""
    # The base class takes it, which the library's types do not say.
    outputs: dict[str, Any] = {"num_labels": len(classes)}
    if architecture == "vit.yaml":
        return ViTForImageClassification(
            ViTConfig(
                image_size=imgsz,
                patch_size=8,
                hidden_size=96,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=192,
                **outputs,
            )
        )
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=32,
            hidden_sizes=[32, 64, 128, 256],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            **outputs,
        )
    )


def prepared(pixels: NDArray[np.uint8], side: int) -> Tensor:
    """A picture as a model takes it: 3 × side × side, from -1 to 1."""
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1)


class Pictures(Dataset[tuple[Tensor, int]]):
    """The pictures of a split, in a folder for each class; the classes are numbered by the folders' order."""

    def __init__(self, folder: Path, side: int, flip: float = 0.0) -> None:
        """Lists them. Raises InvalidDataset if there is none."""
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
        files = [
            (path, index) for index, own in enumerate(folders) for path in sorted(own.rglob("*")) if path.is_file()
        ]
        if not files:
            raise InvalidDataset(f"{folder} has no image: give the split {folder.name} at least one.")
        self.files, self.labels = [path for path, _ in files], [index for _, index in files]
        self._side, self._flip = side, flip

    def __len__(self) -> int:
        """Their number."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One of them; the loop has seeded the random numbers for it. Raises InvalidDataset if it can't be decoded."""
        try:
            picture = prepared(decode(self.files[index].read_bytes()), self._side)
        except Undecodable as error:
            raise InvalidDataset(f"{self.files[index].name} is {error}; replace it, or leave it out.") from error
        return picture.flip(2) if self._flip and float(torch.rand(())) < self._flip else picture, self.labels[index]


class Classifier:
    """What the loop trains; the protocol is `visionloop.training.pytorch.loop.Learner`."""

    measures = True

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and lists the images."""
        config, self._device = job.config, device
        self._about = {"architecture": config["model"], "classes": list(job.classes), "imgsz": int(config["imgsz"])}
        self.model = build(**self._about).to(device)
        flip = float(config["hflip"]) if config["augment"] else 0.0
        train = Pictures(job.dataset / "train", self._about["imgsz"], flip)
        validation = Pictures(job.dataset / "val", self._about["imgsz"])
        listener.images("train", train.files)
        listener.images("val", validation.files)
        workers = loading_workers(job)
        self.train = TrainingBatches(
            train,
            images=len(train),
            effective=int(config["batch"]),
            batch=job.batch,
            seed=int(config["seed"]),
            workers=workers,
            pinned=device.type == "cuda",
        )
        self._validation = DataLoader(validation, batch_size=job.batch, num_workers=workers)
        self.validation_batches = len(self._validation)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The cross entropy."""
        images, labels = (part.to(self._device, non_blocking=True) for part in batch)
        return {"loss": nn.functional.cross_entropy(self.model(pixel_values=images).logits.float(), labels)}

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The accuracies and the loss on val."""
        measurement, total = ImageMeasurement(self._about["classes"], "val"), 0.0
        for images, labels in batches_of(self._validation, on_batch):
            logits = model(pixel_values=images.to(self._device)).logits.float()
            total += float(nn.functional.cross_entropy(logits, labels.to(self._device), reduction="sum"))
            measurement.add(logits.softmax(1).cpu().numpy(), labels.numpy())
        return {**measurement.metrics(), "val_loss": total / len(measurement.true)}

    def description(self) -> dict[str, Any]:
        """What is needed to build the model again."""
        return self._about


def load(path: Path) -> tuple[dict[str, Any], nn.Module]:
    """A model file's description and model, ready to predict. Raises InvalidReceipt for another file."""
    about, weights = models.read(path)
    try:
        model = build(**about)
        model.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise models.unusable(path) from error
    return about, model.eval()


@torch.no_grad()
def evaluate(
    checkpoint: Path, folder: Path, config: Mapping[str, Any], on_batch: Callable[[int, int], None]
) -> Evaluation:
    """Measures a model on a split's folder."""
    about, model = load(checkpoint)
    batch = int(config.get("batch", 16))
    with translated(batch, about["imgsz"]):
        device = torch_device(config.get("device"))
        model.to(device)
        loader = DataLoader(Pictures(folder, about["imgsz"]), batch_size=batch)
        measurement = ImageMeasurement(about["classes"], folder.name)
        for done, (images, labels) in enumerate(loader, 1):
            scores = model(pixel_values=images.to(device)).logits.float().softmax(1)
            measurement.add(scores.cpu().numpy(), labels.numpy())
            on_batch(done, len(loader))
    return measurement.evaluation()


class ClassifierPredictor:
    """A loaded model."""

    def __init__(self, checkpoint: Path) -> None:
        """Loads a ``TrainingResult.best``."""
        self._about, model = load(checkpoint)
        self.classes = tuple(self._about["classes"])
        self._device = torch_device(None)
        self._model = model.to(self._device)

    def predict(
        self,
        images: Iterable[NDArray[np.uint8]],
        settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it can't change
    ) -> Iterator[list[Prediction]]:
        """Yields the likeliest classes of each picture."""
        for pixels in images:
            with translated(1, self._about["imgsz"]), torch.no_grad():
                inputs = prepared(pixels, self._about["imgsz"])[None].to(self._device)
                scores = self._model(pixel_values=inputs).logits[0].float().softmax(0).cpu().numpy()
            best = np.argsort(-scores, kind="stable")[: settings.classes]
            yield [Prediction(int(index), float(scores[index])) for index in best]
