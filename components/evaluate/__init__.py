"""evaluate: compares a training with the champion on the held-out split, and says whether to promote it."""

from visionloop.components.evaluate.stage import STAGE
from visionloop.components.exposed import component_of

__all__ = ["STAGE", "evaluate"]

__getattr__ = component_of(__name__)
