"""The code of a registered model: MLflow copies this file into the model and runs it when the model is loaded.

``mlflow.pyfunc.load_model(uri).predict(images)`` takes paths, encoded images (bytes), arrays of height × width × 3 (RGB,
8 bit) or a table with a column ``image`` of these, and returns a list of detections for each image.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


def _images(model_input: Any) -> list[Any]:
    """The images as a list, whatever form the input has."""
    if hasattr(model_input, "columns"):
        return list(model_input["image"])
    if isinstance(model_input, str | bytes | bytearray | Path) or getattr(model_input, "ndim", None) == 3:
        return [model_input]
    return list(model_input)


@contextlib.contextmanager
def _files(images: list[Any]) -> Iterator[list[Path]]:
    """The images as files; an image that is not a path is written into a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="visionloop-predict-") as folder:
        paths = []
        for number, image in enumerate(images):
            if isinstance(image, str | Path):
                paths.append(Path(image))
                continue
            path = Path(folder, f"{number}.png")
            _write(image, path)
            paths.append(path)
        yield paths


def _write(image: Any, path: Path) -> None:
    from PIL import Image

    if isinstance(image, bytes | bytearray):
        path.write_bytes(image)
    else:
        Image.fromarray(image).convert("RGB").save(path)


class _Detection:
    """Loads and predicts. A separate class: MLflow warns about each ``predict`` in a model's class without type hints, and
    has none for images."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint."""
        from visionloop.training import catalog

        trainer = catalog.trainer(context.model_config["trainer"])
        self.predictor = trainer.predictor(Path(context.artifacts["checkpoint"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Detections of each image: class name, class index, confidence, box x1, y1, x2, y2 in pixels."""
        confidence = float((params or {}).get("confidence", 0.25))
        classes = self.predictor.classes
        with _files(_images(model_input)) as paths:
            return [
                [
                    {
                        "class": classes[detection.class_index],
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
