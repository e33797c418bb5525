"""What the code inside models that were registered by 0.1.0 imports: a trainer of the first protocol, by its name.

Its predictor takes paths and a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionloop.data.decoding import decode
from visionloop.training import catalog
from visionloop.training.trainers import Prediction, PredictionSettings, Predictor, Trainer


@dataclass(frozen=True)
class _FirstPredictor:
    """A predictor as those models use it."""

    predictor: Predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.predictor.classes

    def predict(self, images: Sequence[Path], confidence: float = 0.25) -> Iterator[list[Prediction]]:
        """Yields what each image shows, in their order."""
        pictures = (decode(path.read_bytes()) for path in images)
        return self.predictor.predict(pictures, PredictionSettings(confidence=confidence))


@dataclass(frozen=True)
class _FirstTrainer:
    """A trainer as those models use it."""

    trainer: Trainer

    def predictor(self, checkpoint: Path) -> _FirstPredictor:
        """Loads a ``TrainingResult.best``."""
        return _FirstPredictor(self.trainer.predictor(checkpoint))


def trainer(name: str) -> _FirstTrainer:
    """The trainer of this name. Raises InvalidConfig, listing the installed trainers."""
    return _FirstTrainer(catalog.trainer(name))
