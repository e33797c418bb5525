"""The old name of ``visionloop.training.catalog``, which the code inside models that were registered by 0.1.0 imports."""

from visionloop.training.catalog import trainer

__all__ = ["trainer"]
