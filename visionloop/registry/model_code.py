"""The code of a registered model: MLflow copies this file into the model and runs it when the model is loaded.

``mlflow.pyfunc.load_model(uri).predict(images)`` takes images in each form of ``visionloop.registry.inputs``, and returns a
list of what it shows for each, as ``visionloop.registry.outputs`` has it. Where Visionloop or a third party's trainer is not
installed, its modules come from the archive in the model.
"""

import importlib
import sys
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


class _Model:
    """Loads and predicts. A separate class: MLflow warns about each ``predict`` in a model's class without type hints, and
    has none for images."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint."""
        sys.path.append(context.artifacts["code"])  # last: what is installed counts
        self.inputs = importlib.import_module("visionloop.registry.inputs")
        self.outputs = importlib.import_module("visionloop.registry.outputs")
        self.operating_point = context.model_config.get("operating_point") or {}
        self.predictor = _trainer(context.model_config).predictor(Path(context.artifacts["checkpoint"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """What each image shows, in the form of ``visionloop.registry.outputs``."""
        try:
            least = self.outputs.thresholds(params or {}, self.operating_point)
            asked = self.outputs.settings(params or {}, least)
            images = self.inputs.encoded_images(model_input, served=self.inputs.is_served())
        except (self.inputs.InvalidImage, self.outputs.InvalidParameter) as error:
            # MLflow's server answers this with 400.
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return self.outputs.described(self.predictor, map(self.inputs.pixels, images), asked, least)


class Model(_Model, PythonModel):  # type: ignore[misc]
    """The model that MLflow serves."""


set_model(Model())
