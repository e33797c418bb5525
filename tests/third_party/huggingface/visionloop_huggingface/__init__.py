"""Image classifiers of Hugging Face's transformers as a trainer: an example of a third party's, on Visionloop's own training loop.

The trainer only declares; whatever imports torch or transformers lies in `classifier`, which is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core.policy import POLICIES, StagePolicy
from visionloop.training.pytorch.settings import OPTIMIZATION
from visionloop.training.trainers import PROTOCOL, Evaluation, Listener, Predictor, Setting, TrainingJob, TrainingResult

#: What can be trained; weights to start from are not taken.
ARCHITECTURES = ("resnet.yaml", "vit.yaml")

#: Packages that loading a model needs.
REQUIREMENTS = ("transformers", "torch", "safetensors")


class HuggingFaceTrainer:
    """The protocol is `visionloop.training.trainers.Trainer`."""

    name = "huggingface"
    protocol = PROTOCOL
    logic_version = 1
    distribution = "transformers"
    licence = "Apache-2.0"
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

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Nothing is spelled otherwise here."""
        return values

    def model_task(self, model: str) -> str | None:
        """Classification for each architecture."""
        return "classification" if model in ARCHITECTURES else None

    def weights_names(self, model: str) -> tuple[str, ...]:
        """None: every model is trained from its configuration."""
        return ()

    def is_architecture(self, model: str) -> bool:
        """Whether it is one of those above."""
        return model in ARCHITECTURES

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains by the shared loop, which resumes, keeps the best epoch, and names errors of memory and of the machine."""
        from visionloop.training.pytorch.training import train
        from visionloop_huggingface.classifier import Classifier

        return train(job, listener, Classifier)

    def evaluate(
        self,
        checkpoint: Path,
        dataset: Path,
        split: str,
        config: Mapping[str, Any],
        work: Path,
        on_batch: Callable[[int, int], None],
    ) -> Evaluation:
        """Measures a model as every trainer of classifiers here measures one."""
        from visionloop_huggingface.classifier import evaluate

        return evaluate(checkpoint, dataset / split, config, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model."""
        from visionloop_huggingface.classifier import ClassifierPredictor

        return ClassifierPredictor(checkpoint)

    def requirements(self) -> list[str]:
        """The pinned requirements of a model."""
        return [f"{name}=={version(name)}" for name in REQUIREMENTS]


TRAINER = HuggingFaceTrainer()
