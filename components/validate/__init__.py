"""validate: says which images of a snapshot are usable, and why the others are not."""

from visionloop.components.validate.stage import STAGE

__all__ = ["STAGE"]
