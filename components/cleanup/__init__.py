"""cleanup: removes what a run left behind; runs whatever happened before."""

from visionloop.components.cleanup.stage import STAGE
from visionloop.components.exposed import component_of

__all__ = ["STAGE", "cleanup"]

__getattr__ = component_of(__name__)
