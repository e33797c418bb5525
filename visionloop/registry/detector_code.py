"""The code of a registered model: MLflow copies this file into the model and runs it when the model is loaded.

``mlflow.pyfunc.load_model(uri).predict(images)`` takes images in each form of ``visionloop.registry.inputs``, and returns a
list of detections for each. Where Visionloop is not installed, its modules come from the archive in the model.
"""

import importlib
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


def _trainer(config: dict[str, Any]) -> Any:
    """The trainer by its entry point, or in the archive, which has no entry points, by the object that it named."""
    from visionloop.core import catalog as installed
    from visionloop.training import catalog

    if config["trainer"] in installed.names(catalog.TRAINERS) or not config.get("trainer_object"):
        return catalog.trainer(config["trainer"])
    module, _, name = config["trainer_object"].partition(":")
    return getattr(importlib.import_module(module), name)


class _Detection:
    """Loads and predicts. A separate class: MLflow warns about each ``predict`` in a model's class without type hints, and
    has none for images."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint."""
        installed = importlib.util.find_spec("visionloop")
        if installed is None or installed.origin is None:
            sys.path.append(context.artifacts["code"])
        self.inputs = importlib.import_module("visionloop.registry.inputs")
        self.predictor = _trainer(context.model_config).predictor(Path(context.artifacts["checkpoint"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Detections of each image: class name, class index, confidence, box x1, y1, x2, y2 in pixels."""
        confidence = float((params or {}).get("confidence", 0.25))
        try:
            images = self.inputs.encoded_images(model_input, served=self.inputs.is_served())
        except self.inputs.InvalidImage as error:
            # MLflow's server answers this with 400.
            raise MlflowException.invalid_parameter_value(str(error)) from error
        with tempfile.TemporaryDirectory(prefix="visionloop-predict-") as folder:
            paths = []
            for number, data in enumerate(images):
                paths.append(Path(folder, f"{number}.{self.inputs.extension(data)}"))
                paths[-1].write_bytes(data)
            return [
                [
                    {
                        "class": self.predictor.classes[detection.class_index],
                        "class_index": detection.class_index,
                        "confidence": detection.confidence,
                        "box": list(detection.box),
                    }
                    for detection in detections
                ]
                for detections in self.predictor.predict(paths, confidence)
            ]


class Detector(_Detection, PythonModel):  # type: ignore[misc]
    """The model that MLflow serves."""


set_model(Detector())
