"""ClearML: a task there for a training, by its own SDK, which works in a process of its own (docs/tracking.md, "ClearML")."""

from visionloop.training.tracking.clearml.tracker import TRACKER

__all__ = ["TRACKER"]
