"""Visionloop: pipelines that retrain vision models from annotated image datasets."""

from importlib.metadata import version

__version__ = version("visionloop")
