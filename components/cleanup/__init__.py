"""cleanup: removes what a run left behind; runs whatever happened before."""

from visionloop.components.cleanup.stage import STAGE

__all__ = ["STAGE"]
