"""register: makes an evaluated model a version in the registry, exactly once, and moves its alias."""

from visionloop.components.register.stage import STAGE

__all__ = ["STAGE"]
