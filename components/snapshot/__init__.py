"""snapshot: freezes a dataset without copying an image."""

from visionloop.components.exposed import component_of
from visionloop.components.snapshot.stage import STAGE

__all__ = ["STAGE", "snapshot"]

__getattr__ = component_of(__name__)
