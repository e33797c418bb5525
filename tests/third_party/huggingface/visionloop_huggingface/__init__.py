"""Image classifiers of Hugging Face's transformers as a trainer: an example of a third party's, on Visionloop's own training loop.

The trainer only declares; whatever imports torch or transformers lies in `classifier`, which is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.policy import POLICIES, StagePolicy
from visionloop.training.pytorch.settings import OPTIMIZATION
from visionloop.training.pytorch.trainer import LoopTrainer
from visionloop.training.trainers import Setting

if TYPE_CHECKING:
    from visionloop.training.pytorch.failures import Further
    from visionloop.training.pytorch.images.classifier import LoadedClassifier
    from visionloop.training.pytorch.training import MakesLearner

#: What can be trained; weights to start from are not taken.
ARCHITECTURES = ("resnet.yaml", "vit.yaml")


class HuggingFaceTrainer(LoopTrainer):
    """Classifiers that transformers brings, on the loop of `visionloop.training.pytorch`."""

    name = "huggingface"
    logic_version = 1
    distribution = "transformers"
    licence = "Apache-2.0"
    #: Packages that loading a model needs.
    packages = ("transformers", "torch", "safetensors")
    tasks = frozenset({"classification"})
    policy: StagePolicy = replace(POLICIES["train"], image="visionloop-trainer-huggingface")
    metrics: Mapping[str, tuple[str, ...]] = {"classification": ("accuracy_top1", "accuracy_top5", "val_loss")}
    demos: Mapping[str, Mapping[str, str]] = {
        "classification": {"imgsz": "64", "epochs": "12", "optimizer": "AdamW", "lr0": "0.002", "warmup_epochs": "1"}
    }

    def settings(self, task: str) -> Mapping[str, Setting]:
        """Those of the loop, the architecture, and one augmentation."""
        return {
            "model": Setting(str, ARCHITECTURES[0], "the architecture", choices=ARCHITECTURES),
            "hflip": Setting(float, 0.0, "probability of a left-right flip", minimum=0.0, maximum=1.0),
            **OPTIMIZATION,
        }

    def model_task(self, model: str) -> str | None:
        """Classification for each architecture."""
        return "classification" if model in ARCHITECTURES else None

    def files(self, model: str) -> tuple[str, ...]:
        """None: every model is trained from its configuration."""
        return ()

    def learner(self) -> tuple[MakesLearner, Further]:
        """What makes the model with its data, and what recognises the library's own exceptions."""
        from visionloop.training.pytorch.failures import nothing_further
        from visionloop_huggingface.classifier import HuggingFaceLearner

        return HuggingFaceLearner, nothing_further

    def load(self, checkpoint: Path, config: Mapping[str, Any]) -> LoadedClassifier:
        """Loads a model, which is then measured and asked as every classifier here."""
        from visionloop.training.pytorch.images.classifier import LoadedClassifier
        from visionloop.training.pytorch.models import load
        from visionloop_huggingface.classifier import Description

        return LoadedClassifier(*load(checkpoint, Description, Description.build), config)


TRAINER = HuggingFaceTrainer()
