"""The model registry: versions, aliases and the champion in MLflow, and what a registered model is made of."""

from visionloop.components.registry.registry import CHALLENGER, CHAMPION, NO_CHAMPION, Registry, Version
from visionloop.components.registry.resolve import resolve_model

__all__ = ["CHALLENGER", "CHAMPION", "NO_CHAMPION", "Registry", "Version", "resolve_model"]
