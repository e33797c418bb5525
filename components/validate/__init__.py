"""validate: says which images of a snapshot are usable, and why the others are not."""

from visionloop.components.exposed import component_of
from visionloop.components.validate.stage import STAGE

__all__ = ["STAGE", "validate"]

__getattr__ = component_of(__name__)
