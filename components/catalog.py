"""Finds stages and trainers by their entry points, so that a third party's need no change here."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from visionloop.components.errors import InvalidConfig
from visionloop.components.stage import Stage
from visionloop.components.trainers import Trainer

STAGES = "visionloop.stages"
TRAINERS = "visionloop.trainers"


def stages() -> dict[str, Stage]:
    """Every installed stage by name."""
    return {entry.name: _load(STAGES, entry.name) for entry in entry_points(group=STAGES)}


def trainers() -> dict[str, Trainer]:
    """Every installed trainer by name."""
    return {entry.name: _load(TRAINERS, entry.name) for entry in entry_points(group=TRAINERS)}


def stage(name: str) -> Stage:
    """One stage. Raises InvalidConfig, naming those that there are."""
    return _one(STAGES, name, "stage")  # type: ignore[no-any-return]


def trainer(name: str) -> Trainer:
    """One trainer. Raises InvalidConfig, naming those that there are."""
    return _one(TRAINERS, name, "trainer")  # type: ignore[no-any-return]


def _one(group: str, name: str, what: str) -> Any:
    names = sorted(entry.name for entry in entry_points(group=group))
    if name not in names:
        raise InvalidConfig(f"There is no {what} '{name}'; there are {', '.join(names)}.")
    return _load(group, name)


@cache
def _load(group: str, name: str) -> Any:
    (entry, *_) = entry_points(group=group, name=name)
    return entry.load()
