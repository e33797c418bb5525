"""evaluate: compares a training with the champion on the held-out split, and says whether to promote it."""

from visionloop.components.evaluate.stage import STAGE

__all__ = ["STAGE"]
