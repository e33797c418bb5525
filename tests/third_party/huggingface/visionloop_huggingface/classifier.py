"""The model, and how pictures are prepared for it. Importing this module imports torch and transformers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visionloop.training.pytorch.images.classifier import Classifier, ClassifierLearner, Transform
from visionloop.training.trainers import Listener, TrainingJob

# Nothing is fetched or sent; the library reads these when it is imported.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification


@dataclass(frozen=True)
class Description(Classifier):
    """What a model file says of its model: its architecture, classes and side of the input."""

    architecture: str

    def build(self) -> nn.Module:
        """A model with random weights, small enough for a processor."""
        # The base class takes it, which the library's types do not say.
        outputs: dict[str, Any] = {"num_labels": len(self.classes)}
        if self.architecture == "vit.yaml":
            return ViTForImageClassification(
                ViTConfig(
                    image_size=self.imgsz,
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

    def transform(self) -> Transform:
        """Pictures as a model takes them: 3 × side × side, from -1 to 1."""

        def prepared(image: Image.Image) -> Tensor:
            pixels = np.asarray(image.resize((self.imgsz, self.imgsz), Image.Resampling.BILINEAR), np.float32)
            return torch.from_numpy(pixels.transpose(2, 0, 1) / 127.5 - 1)

        return prepared

    def scores(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The library's models take inputs by name, and give more than their scores."""
        scores: Tensor = model(pixel_values=inputs).logits
        return scores.float()


class HuggingFaceLearner(ClassifierLearner[Description]):
    """What the loop trains."""

    def __init__(self, job: TrainingJob, device: torch.device, listener: Listener) -> None:
        """Builds the model and lists the images."""
        about = Description(list(job.classes), int(job.config["imgsz"]), str(job.config["model"]))
        super().__init__(job, device, listener, about, about.build())

    def augmented(self) -> Transform:
        """How a picture is prepared for training: mirrored by chance."""
        prepared, config = self.about.transform(), self.job.config
        flip = float(config["hflip"]) if config["augment"] else 0.0

        def mirrored(image: Image.Image) -> Tensor:
            # The loop has seeded the random numbers for each image.
            return prepared(image).flip(2) if flip and float(torch.rand(())) < flip else prepared(image)

        return mirrored
