"""Model names: the architectures that the library brings, and the file names of their weights."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

#: How the library marks a function that builds an architecture; the function has the architecture's name.
_REGISTERED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def ([a-z0-9_]+)\(", re.MULTILINE)

#: An architecture's name, and the tag of one of its weights: resnet18, resnet18.a1_in1k.
_NAME = re.compile(r"(?P<architecture>[a-z][a-z0-9_]*)(\.(?P<tag>[a-z0-9_]+))?")


def architecture(model: str) -> str | None:
    """The architecture that a bare model or YAML name is for, with the weights' tag; None for a path, a URI or another name."""
    match = _NAME.fullmatch(re.sub(r"\.(yaml|yml)$", "", model))
    if match is None:
        return None
    shipped = _shipped()
    # If the library is not installed, only the spelling is checked.
    return match[0] if not shipped or match["architecture"] in shipped else None


@functools.cache
def _shipped() -> frozenset[str]:
    """The installed library's architectures, read from its sources: to import them takes seconds."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    models = Path(next(iter(spec.submodule_search_locations))) / "models"
    return frozenset(
        name for file in models.glob("*.py") for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    )
