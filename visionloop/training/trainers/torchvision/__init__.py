"""The torchvision trainer: FCOS, Mask R-CNN and Keypoint R-CNN. The only folder that imports torchvision's models (BSD-3-Clause)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.measurement import TASK_METRICS
from visionloop.training.pytorch.objects.trainer import DetectorTrainer
from visionloop.training.trainers import Setting
from visionloop.training.trainers.torchvision import names
from visionloop.training.trainers.torchvision import settings as configuration
from visionloop.training.trainers.torchvision.demo import DEMOS

if TYPE_CHECKING:
    from visionloop.training.pytorch.failures import Further
    from visionloop.training.pytorch.objects.loaded import LoadedDetector
    from visionloop.training.pytorch.training import MakesLearner


class TorchvisionTrainer(DetectorTrainer):
    """Detectors that torchvision brings, on the loop of `visionloop.training.pytorch`."""

    name = "torchvision"
    licence = "BSD-3-Clause"
    logic_version = 1
    distribution = "torchvision"
    packages = ("torch", "torchvision", "safetensors", "opencv-python-headless")
    tasks = frozenset({"detection", "segmentation", "pose"})
    metrics: Mapping[str, tuple[str, ...]] = TASK_METRICS
    formats = ("onnx", "torchscript")
    policy: StagePolicy = row_of_trainer(name)
    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings of a task."""
        return configuration.settings(task)

    def model_task(self, model: str) -> str | None:
        """The task of a bare model or YAML name, or None if the name does not show it."""
        return names.model_task(model)

    def files(self, model: str) -> tuple[str, ...]:
        """File names that the weights of a bare model name may have."""
        return names.files(model)

    def learner(self) -> tuple[MakesLearner, Further]:
        """What makes the model with its data, and what recognises the library's own exceptions."""
        from visionloop.training.pytorch.failures import nothing_further
        from visionloop.training.trainers.torchvision.learner import TorchvisionLearner

        return TorchvisionLearner, nothing_further

    def load(self, checkpoint: Path, config: Mapping[str, Any]) -> LoadedDetector:
        """Loads a model file; ``conf``, ``iou`` and ``max_det`` of the settings count before the training's."""
        from visionloop.training.pytorch.objects.loaded import LoadedDetector
        from visionloop.training.trainers.torchvision.model import load

        return LoadedDetector(*load(checkpoint, config), config)


TRAINER = TorchvisionTrainer()
