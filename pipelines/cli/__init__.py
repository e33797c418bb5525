"""The command ``visionloop``."""

from visionloop.pipelines.cli.main import main

__all__ = ["main"]
