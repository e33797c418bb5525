"""The transformers trainer: RT-DETR, RT-DETRv2 and D-FINE. The only folder that imports the transformers library (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.policy import StagePolicy, row_of_trainer
from visionloop.training.measurement import TASK_METRICS
from visionloop.training.pytorch.objects.trainer import DetectorTrainer
from visionloop.training.pytorch.settings import renamed
from visionloop.training.trainers import Setting
from visionloop.training.trainers.transformers import names
from visionloop.training.trainers.transformers.demo import DEMOS
from visionloop.training.trainers.transformers.settings import ADVICE, SETTINGS, SYNONYMS, check_size

if TYPE_CHECKING:
    from visionloop.training.pytorch.failures import Further
    from visionloop.training.pytorch.objects.loaded import LoadedDetector
    from visionloop.training.pytorch.training import MakesLearner


class TransformersTrainer(DetectorTrainer):
    """Detectors that transformers brings, on the loop of `visionloop.training.pytorch`."""

    name = "transformers"
    licence = "Apache-2.0"
    logic_version = 1
    distribution = "transformers"
    packages = ("torch", "transformers", "safetensors", "opencv-python-headless")
    tasks = frozenset({"detection"})
    metrics: Mapping[str, tuple[str, ...]] = {"detection": TASK_METRICS["detection"]}
    weights_files = names.WEIGHTS_FILES
    formats = ("onnx", "torchscript")
    policy: StagePolicy = row_of_trainer(name)
    demos = DEMOS

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings."""
        return SETTINGS

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps the library's own names of settings; see `DetectorTrainer.normalise`.

        Raises:
            InvalidConfig: As that, and if pictures are too small for the architecture that is named.
        """
        values = super().normalise(renamed(values, SYNONYMS), task)
        if (name := names.architecture(str(values.get("model", names.DEFAULT)))) and "imgsz" in values:
            check_size(names.ARCHITECTURES[name][1], values["imgsz"])
        return values

    def advice(self, name: str, value: object) -> str | None:
        """What to do instead of a setting that only the library's own training has."""
        return ADVICE.get(name)

    def model_task(self, model: str) -> str | None:
        """Detection for each of the names of `names.ARCHITECTURES`, None for all others."""
        return "detection" if names.architecture(model) else None

    def files(self, model: str) -> tuple[str, ...]:
        """The folder and the file that a bare model name's weights may be."""
        return (f"{model}/", f"{model}.safetensors")

    def learner(self) -> tuple[MakesLearner, Further]:
        """What makes the model with its data, and what recognises the library's own exceptions."""
        from visionloop.training.pytorch.failures import nothing_further
        from visionloop.training.trainers.transformers.learner import TransformersLearner

        return TransformersLearner, nothing_further

    def load(self, checkpoint: Path, config: Mapping[str, Any]) -> LoadedDetector:
        """Loads a model file; ``conf`` and ``max_det`` of the settings count before the training's."""
        from visionloop.training.pytorch.objects.loaded import LoadedDetector
        from visionloop.training.trainers.transformers.model import load

        return LoadedDetector(*load(checkpoint, config), config)


TRAINER = TransformersTrainer()
