"""The old name of ``visionloop.training.catalog``; models that were registered by 0.1.0 contain code that imports it."""

from visionloop.training.catalog import trainer

__all__ = ["trainer"]
