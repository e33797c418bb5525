"""register: makes an evaluated model a version in the registry, exactly once, and moves its alias."""

from visionloop.components.exposed import component_of
from visionloop.components.register.stage import STAGE

__all__ = ["STAGE", "register"]

__getattr__ = component_of(__name__)
