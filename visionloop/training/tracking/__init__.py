"""Tracking: tells trackers a training's settings and metrics, and never fails or slows the training because of it.

``OBSERVABILITY_BACKENDS`` names the trackers; each is a module or folder here and an entry point of ``visionloop.trackers``, with the
methods of ``Tracker``.
"""

from visionloop.training.tracking.choice import check_elsewhere, chosen
from visionloop.training.tracking.record import attach, end_left_open
from visionloop.training.tracking.tracker import Tracker, TrackerRun, TrainingDescription
from visionloop.training.tracking.trackers import Trackers, open_trackers

__all__ = [
    "Tracker",
    "TrackerRun",
    "Trackers",
    "TrainingDescription",
    "attach",
    "check_elsewhere",
    "chosen",
    "end_left_open",
    "open_trackers",
]
