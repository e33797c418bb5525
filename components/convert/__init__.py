"""convert: turns a snapshot's annotations into what a trainer reads; images are never copied."""

from visionloop.components.convert.stage import STAGE
from visionloop.components.exposed import component_of

__all__ = ["STAGE", "convert"]

__getattr__ = component_of(__name__)
