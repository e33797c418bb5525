"""What a prediction asks of a model: from which confidence on an object counts, and whether large images are cut into tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionloop.core.errors import InvalidConfig
from visionloop.registry import outputs
from visionloop.registry.package import Description
from visionloop.training.tiled import check_tile
from visionloop.training.trainers import PredictionSettings


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        settings: What the trainer is told.
        least: The least confidence by class name; empty where one counts for all.
        tile: The side of the tiles that large images are looked at in as well, in pixels; None for none.
    """

    settings: PredictionSettings
    least: Mapping[str, float] = field(default_factory=dict)
    tile: int | None = None

    def confidences(self, description: Description) -> dict[str, float] | None:
        """The least confidence of each class; None for a classifier, which gives its likeliest ones whatever theirs."""
        if description.task == "classification":
            return None
        return {name: max(self.settings.confidence, self.least.get(name, 0.0)) for name in description.classes}


def asked_of(description: Description, confidence: float | None, tile: int | None = None) -> Asked:
    """What is asked of a model.

    Args:
        description: The model.
        confidence: The least confidence of an object; None takes the model's operating point.
        tile: The side of the tiles.

    Raises:
        InvalidConfig: If the confidence is not a number from 0 to 1, or one of the two has no meaning for the model's task.
    """
    params = {} if confidence is None else {outputs.CONFIDENCE: confidence}
    least = outputs.thresholds(params, description.operating_point)
    try:
        settings = outputs.settings(params, least)
    except outputs.InvalidParameter as error:
        raise InvalidConfig(f"--confidence: {error}") from error
    if confidence is not None and description.task == "classification":
        raise InvalidConfig(
            "--confidence: a classifier gives its likeliest classes, whatever their confidence; leave it out."
        )
    check_tile(tile, description.task)
    return Asked(settings, least, tile)


def parse_confidence(text: str | None) -> float | None:
    """The confidence of an engine's form; None where it is left out. Raises InvalidConfig."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidConfig(f"--confidence {text:.80}: give a number from 0 to 1.") from None
