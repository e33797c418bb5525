"""The Ultralytics trainer: YOLO models. The only folder that imports ultralytics (AGPL-3.0), and only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.measurement import TASK_METRICS
from visionloop.training.trainers import (
    PROTOCOL,
    BatchTrial,
    Evaluation,
    Exported,
    Listener,
    Predictor,
    Setting,
    TrainingJob,
    TrainingResult,
    Value,
)
from visionloop.training.trainers.ultralytics import names, words
from visionloop.training.trainers.ultralytics import settings as configuration
from visionloop.training.trainers.ultralytics.demo import DEMOS
from visionloop.training.trainers.ultralytics.tasks import TASKS

#: Packages that loading a model file needs.
REQUIREMENTS = ("ultralytics", "torch", "torchvision", "opencv-python-headless")


class UltralyticsTrainer:
    """YOLO models through the ultralytics package; the protocol is `visionloop.training.trainers.Trainer`."""

    name = "ultralytics"
    distribution = "ultralytics"
    licence = "AGPL-3.0-only"
    logic_version = 1
    protocol = PROTOCOL
    several_devices = True
    tasks = frozenset(TASKS)
    label_files = False
    #: The images of classification are shrunk by another library's antialiasing.
    interpolation: Mapping[str, str] = dict.fromkeys(("detection", "segmentation", "pose"), "linear")
    formats = ("onnx", "torchscript")
    policy: StagePolicy = row_of_trainer(name)
    metrics: Mapping[str, tuple[str, ...]] = TASK_METRICS

    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings of a task."""
        return configuration.settings(task)

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps values of older configurations to the library's; see `settings.normalise`."""
        return configuration.normalise(values, task)

    def advice(self, name: str, value: object) -> str | None:
        """What to do instead of a word of ``yolo train`` that is not taken here; see `words`."""
        return words.advice(name, value)

    def remarks(self, values: Mapping[str, Value]) -> list[str]:
        """A notice where no epoch has mosaic; see `settings.remarks`."""
        return configuration.remarks(values)

    def model_task(self, model: str) -> str | None:
        """The task that a bare model or YAML name is for, or None if the name does not show it."""
        return names.model_task(model)

    def weights_names(self, model: str) -> tuple[str, ...]:
        """File names that a bare model name's weights may have."""
        return names.weights_names(model)

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` is the YAML name of an architecture that the library ships."""
        return names.is_architecture(model)

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; a checkpoint of a finished training is only finalised."""
        from visionloop.training.trainers.ultralytics import training

        return training.train(job, listener)

    def try_batch(self, job: TrainingJob, listener: Listener) -> BatchTrial:
        """Trains on one batch again and again; see `training.try_batch`."""
        from visionloop.training.trainers.ultralytics import training

        return training.try_batch(job, listener)

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
        from visionloop.training.trainers.ultralytics import evaluation

        return evaluation.evaluate(checkpoint, dataset, split, config, work, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file for inference."""
        from visionloop.training.trainers.ultralytics import prediction

        return prediction.UltralyticsPredictor(checkpoint)

    def export(self, checkpoint: Path, format: str, folder: Path) -> Exported:
        """Writes a model file in another format; see `export.exported`."""
        from visionloop.training.trainers.ultralytics import export

        return export.exported(checkpoint, folder, format)

    def download_weights(self, model: str, folder: Path) -> Path:
        """Fetches the weights of a bare model name; called only where VISIONLOOP_ALLOW_DOWNLOAD=1."""
        from visionloop.training.trainers.ultralytics.download import download_weights

        return download_weights(model, folder)

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a model file needs."""
        return [f"{name}=={version(name)}" for name in REQUIREMENTS]


TRAINER = UltralyticsTrainer()
