"""snapshot: freezes a dataset without copying an image."""

from visionloop.components.snapshot.stage import STAGE

__all__ = ["STAGE"]
