"""The timm trainer: image classifiers. The only folder that imports timm (Apache-2.0), and only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.trainers import PROTOCOL, Evaluation, Listener, Predictor, Setting, TrainingJob, TrainingResult
from visionloop.training.trainers.timm import names
from visionloop.training.trainers.timm import settings as configuration
from visionloop.training.trainers.timm.demo import DEMOS

#: Packages that loading a model file needs.
REQUIREMENTS = ("timm", "torch", "torchvision", "safetensors", "opencv-python-headless")


class TimmTrainer:
    """Image classifiers through the timm package; the protocol is `visionloop.training.trainers.Trainer`."""

    name = "timm"
    licence = "Apache-2.0"
    logic_version = 1
    protocol = PROTOCOL
    tasks = frozenset({"classification"})
    distribution = "timm"
    policy: StagePolicy = row_of_trainer(name)
    metrics: Mapping[str, tuple[str, ...]] = {"classification": ("accuracy_top1", "accuracy_top5")}

    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings."""
        return configuration.settings()

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps the library's own names of settings; see `settings.normalise`."""
        return configuration.normalise(values)

    def model_task(self, model: str) -> str | None:
        """Classification for each of the library's names, None for all others."""
        return "classification" if names.architecture(model) else None

    def weights_names(self, model: str) -> tuple[str, ...]:
        """File names that a bare model name's weights may have."""
        return names.weights_names(model)

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` is the YAML name of an architecture that the library brings."""
        return names.is_architecture(model)

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; a checkpoint of a finished training is only finalised."""
        from visionloop.training.pytorch.training import train
        from visionloop.training.trainers.timm.environment import recognised
        from visionloop.training.trainers.timm.learner import learner

        return train(job, listener, learner, recognised)

    def evaluate(
        self,
        checkpoint: Path,
        dataset: Path,
        split: str,
        config: Mapping[str, Any],
        work: Path,
        on_batch: Callable[[int, int], None],
    ) -> Evaluation:
        """Evaluates a model file on one split; see `evaluation.evaluate`."""
        from visionloop.training.trainers.timm import evaluation

        return evaluation.evaluate(checkpoint, dataset, split, config, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file for inference."""
        from visionloop.training.trainers.timm import prediction

        return prediction.TimmPredictor(checkpoint)

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a model file needs."""
        return [f"{name}=={version(name)}" for name in REQUIREMENTS]


TRAINER = TimmTrainer()
