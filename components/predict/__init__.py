"""predict: what a registered model finds on images, a handful or all below a prefix."""

from visionloop.components.predict.stage import STAGE

__all__ = ["STAGE"]
