"""Finds trainers by their entry points, so that a third party's need no change here."""

from __future__ import annotations

from visionloop.core import catalog
from visionloop.training.trainers import Trainer

TRAINERS = "visionloop.trainers"


def trainers() -> dict[str, Trainer]:
    """Every installed trainer by name."""
    return {name: catalog.load(TRAINERS, name) for name in catalog.names(TRAINERS)}


def trainer(name: str) -> Trainer:
    """The trainer of this name. Raises InvalidConfig, listing the installed trainers."""
    return catalog.find(TRAINERS, name, "trainer")  # type: ignore[no-any-return]


def reference(name: str) -> str | None:
    """Module and object of an installed trainer, as in "package.module:TRAINER"; None if its entry point names neither."""
    value = catalog.value(TRAINERS, name)
    return value if isinstance(value, str) else None
