"""export: writes a trained model in other formats, runs each file beside the model on the same images, and refuses what differs."""

from visionloop.components.export.stage import STAGE

__all__ = ["STAGE"]
