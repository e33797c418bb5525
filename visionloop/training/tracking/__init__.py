"""Tracking: logs a training's parameters and metrics to a tracker, and never fails the training because of it.

MLflow is the first backend. ``open_tracker`` chooses the backend; each is an adapter with the methods of ``Tracker``.
"""

from visionloop.training.tracking.record import attach, end_left_open
from visionloop.training.tracking.tracker import NullTracker, Tracker, open_tracker

__all__ = ["NullTracker", "Tracker", "attach", "end_left_open", "open_tracker"]
