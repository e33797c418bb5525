"""A stage's package exposes its KFP component beside the stage, and kfp is imported for nobody but whoever asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def component_of(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a stage's package (PEP 562): the component has the stage's name and lies in ``component.py``."""
    stage = package.rpartition(".")[2]

    def get(name: str) -> Any:
        if name != stage:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.component"), name)

    return get
