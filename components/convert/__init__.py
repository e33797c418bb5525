"""convert: turns a snapshot's annotations into what a trainer reads; images are never copied."""

from visionloop.components.convert.stage import STAGE

__all__ = ["STAGE"]
