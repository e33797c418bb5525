"""The torchvision trainer: FCOS, Mask R-CNN and Keypoint R-CNN. The only folder that imports torchvision's models (BSD-3-Clause)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.trainers import PROTOCOL, Evaluation, Listener, Predictor, Setting, TrainingJob, TrainingResult
from visionloop.training.trainers.torchvision import names
from visionloop.training.trainers.torchvision import settings as configuration
from visionloop.training.trainers.torchvision.demo import DEMOS

#: Packages that loading a model file needs.
REQUIREMENTS = ("torch", "torchvision", "safetensors", "opencv-python-headless")

_BOX_METRICS = ("mAP50-95", "mAP50", "precision", "recall")


class TorchvisionTrainer:
    """Detectors that torchvision brings; the protocol is `visionloop.training.trainers.Trainer`."""

    name = "torchvision"
    licence = "BSD-3-Clause"
    logic_version = 1
    protocol = PROTOCOL
    distribution = "torchvision"
    tasks = frozenset({"detection", "segmentation", "pose"})
    label_files = False
    interpolation: Mapping[str, str] = dict.fromkeys(("detection", "segmentation", "pose"), "linear")
    policy: StagePolicy = row_of_trainer(name)
    metrics: Mapping[str, tuple[str, ...]] = {
        "detection": _BOX_METRICS,
        "segmentation": (*_BOX_METRICS, "mask_mAP50-95", "mask_mAP50"),
        "pose": (*_BOX_METRICS, "pose_mAP50-95", "pose_mAP50"),
    }

    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings of a task."""
        return configuration.settings(task)

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps values to those that the trainer takes; see `settings.normalise`."""
        return configuration.normalise(values)

    def model_task(self, model: str) -> str | None:
        """The task of a bare model or YAML name, or None if the name does not show it."""
        return names.model_task(model)

    def weights_names(self, model: str) -> tuple[str, ...]:
        """File names that a bare model name's weights may have."""
        return names.weights_names(model)

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` is the YAML name of an architecture."""
        return names.is_architecture(model)

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; a checkpoint of a finished training is only finalised."""
        from visionloop.training.pytorch.training import train
        from visionloop.training.trainers.torchvision.learner import Detector

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
        from visionloop.training.trainers.torchvision import evaluation

        return evaluation.evaluate(checkpoint, dataset, split, config, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file for inference."""
        from visionloop.training.trainers.torchvision import prediction

        return prediction.TorchvisionPredictor(checkpoint)

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a model file needs."""
        return [f"{name}=={version(name)}" for name in REQUIREMENTS]


TRAINER = TorchvisionTrainer()
