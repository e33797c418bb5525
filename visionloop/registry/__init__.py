"""The model registry: versions, aliases and the champion in MLflow, and what a registered model is made of."""

from visionloop.registry.resolve import resolve_model
from visionloop.registry.versions import CHALLENGER, CHAMPION, NO_CHAMPION, Registry, Version

__all__ = ["CHALLENGER", "CHAMPION", "NO_CHAMPION", "Registry", "Version", "resolve_model"]
