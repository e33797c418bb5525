"""Tracking: tells a training's parameters and metrics to a tracker, and never fails the training for it.

MLflow is the first backend. ``open_tracker`` decides which one there is; each is an adapter with the methods of ``Tracker``.
"""

from visionloop.training.tracking.tracker import NullTracker, Tracker, open_tracker

__all__ = ["NullTracker", "Tracker", "open_tracker"]
