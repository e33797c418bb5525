"""Events: what a training does, told over HTTP to whoever wants to know, and never at the training's cost.

``receivers`` reads who is told, ``Publisher`` sends, ``endings`` says how a training ended. ``payloads`` holds what each event says.
"""

from visionloop.training.events import endings
from visionloop.training.events.payloads import (
    Checkpoint,
    GpuInfo,
    LogLine,
    Metrics,
    Progress,
    Started,
)
from visionloop.training.events.publisher import Publisher
from visionloop.training.events.receivers import receivers

__all__ = [
    "Checkpoint",
    "GpuInfo",
    "LogLine",
    "Metrics",
    "Progress",
    "Publisher",
    "Started",
    "endings",
    "receivers",
]
