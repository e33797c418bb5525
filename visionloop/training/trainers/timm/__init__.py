"""The timm trainer: image classifiers. The only folder that imports timm (Apache-2.0), and only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.measurement import TASK_METRICS
from visionloop.training.pytorch.trainer import LoopTrainer
from visionloop.training.trainers import Setting
from visionloop.training.trainers.timm import names
from visionloop.training.trainers.timm import settings as configuration
from visionloop.training.trainers.timm.demo import DEMOS

if TYPE_CHECKING:
    from visionloop.training.pytorch.failures import Further
    from visionloop.training.pytorch.images.classifier import LoadedClassifier
    from visionloop.training.pytorch.training import MakesLearner


class TimmTrainer(LoopTrainer):
    """Image classifiers that timm brings, on the loop of `visionloop.training.pytorch`."""

    name = "timm"
    licence = "Apache-2.0"
    logic_version = 1
    distribution = "timm"
    packages = ("timm", "torch", "torchvision", "safetensors", "opencv-python-headless")
    tasks = frozenset({"classification"})
    metrics: Mapping[str, tuple[str, ...]] = {"classification": TASK_METRICS["classification"]}
    formats = ("onnx", "torchscript")
    policy: StagePolicy = row_of_trainer(name)
    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings."""
        return configuration.SETTINGS

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps the library's own names of settings; see `settings.normalise`."""
        return configuration.normalise(values)

    def model_task(self, model: str) -> str | None:
        """Classification for each of the library's names, None for all others."""
        return "classification" if names.architecture(model) else None

    def files(self, model: str) -> tuple[str, ...]:
        """File names that the weights of a bare model name may have."""
        return tuple(f"{model}{suffix}" for suffix in (".safetensors", ".pth", ".pt", ".bin"))

    def learner(self) -> tuple[MakesLearner, Further]:
        """What makes the model with its data, and what recognises the library's own exceptions."""
        from visionloop.training.trainers.timm.environment import recognised
        from visionloop.training.trainers.timm.learner import TimmLearner

        return TimmLearner, recognised

    def load(self, checkpoint: Path, config: Mapping[str, Any]) -> LoadedClassifier:
        """Loads a model file."""
        from visionloop.training.pytorch.images.classifier import LoadedClassifier
        from visionloop.training.pytorch.models import load
        from visionloop.training.trainers.timm.environment import recognised
        from visionloop.training.trainers.timm.model import Description

        return LoadedClassifier(*load(checkpoint, Description, Description.build), config, recognised)


TRAINER = TimmTrainer()
