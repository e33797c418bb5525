"""TensorBoard: an event file a run, in the workspace or in a folder; nothing else has to run."""

from visionloop.training.tracking.tensorboard.tracker import TRACKER

__all__ = ["TRACKER"]
