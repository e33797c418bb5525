"""The transformers trainer: RT-DETR, RT-DETRv2 and D-FINE. The only folder that imports the transformers library (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.trainers import PROTOCOL, Evaluation, Listener, Predictor, Setting, TrainingJob, TrainingResult
from visionloop.training.trainers.transformers import names
from visionloop.training.trainers.transformers import settings as configuration
from visionloop.training.trainers.transformers.demo import DEMOS

#: Packages that loading a model file needs.
REQUIREMENTS = ("torch", "transformers", "safetensors", "opencv-python-headless")


class TransformersTrainer:
    """Detectors that transformers brings; the protocol is `visionloop.training.trainers.Trainer`."""

    name = "transformers"
    licence = "Apache-2.0"
    logic_version = 1
    protocol = PROTOCOL
    distribution = "transformers"
    tasks = frozenset({"detection"})
    label_files = False
    weights_files = names.WEIGHTS_FILES
    interpolation: Mapping[str, str] = {"detection": "linear"}
    policy: StagePolicy = row_of_trainer(name)
    metrics: Mapping[str, tuple[str, ...]] = {"detection": ("mAP50-95", "mAP50", "precision", "recall")}

    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings of a task."""
        return configuration.settings(task)

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps values to those that the trainer takes; see `settings.normalise`."""
        return configuration.normalise(values)

    def model_task(self, model: str) -> str | None:
        """The task of a bare model or YAML name, or None if the name does not show it."""
        return "detection" if names.architecture(model) else None

    def weights_names(self, model: str) -> tuple[str, ...]:
        """The folder and the file that a bare model name's weights may be."""
        return names.weights_names(model)

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` is the YAML name of an architecture."""
        return names.is_architecture(model)

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; a checkpoint of a finished training is only finalised."""
        from visionloop.training.pytorch.training import train
        from visionloop.training.trainers.transformers.learner import Detector

        return train(job, listener, Detector)

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
        from visionloop.training.trainers.transformers import evaluation

        return evaluation.evaluate(checkpoint, dataset, split, config, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file for inference."""
        from visionloop.training.trainers.transformers import prediction

        return prediction.TransformersPredictor(checkpoint)

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a model file needs."""
        return [f"{name}=={version(name)}" for name in REQUIREMENTS]


TRAINER = TransformersTrainer()
