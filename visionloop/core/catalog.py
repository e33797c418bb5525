"""Finds stages by their entry points, so that a third party's stages need no change here."""

from __future__ import annotations

from functools import cache
from importlib.metadata import Distribution, entry_points
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.core.stage import Stage

STAGES = "visionloop.stages"

#: How many of the names that exist a sentence tells.
MOST_NAMES = 10


def stages() -> dict[str, Stage]:
    """Every installed stage by name."""
    return {name: load(STAGES, name) for name in names(STAGES)}


def stage(name: str) -> Stage:
    """The stage of this name. Raises InvalidConfig, listing the installed stages."""
    return find(STAGES, name, "stage")  # type: ignore[no-any-return]


def names(group: str) -> list[str]:
    """The names of a group's entry points, sorted."""
    return sorted(entry.name for entry in entry_points(group=group))


def find(group: str, name: str, kind: str) -> Any:
    """The object that an entry point names. Raises InvalidConfig, listing the installed ones of this kind."""
    installed = names(group)
    if name not in installed:
        raise InvalidConfig(f"There is no {kind} '{name}'; there are {', '.join(installed[:MOST_NAMES])}.")
    return load(group, name)


@cache
def load(group: str, name: str) -> Any:
    """The object that an installed entry point names, imported once."""
    (entry, *_) = entry_points(group=group, name=name)
    return entry.load()


def distribution(group: str, name: str) -> Distribution | None:
    """The distribution that brings an entry point; None if it is not installed."""
    return next((entry.dist for entry in entry_points(group=group, name=name)), None)


def value(group: str, name: str) -> str | None:
    """What an entry point says, "module:object"; None if it is not installed."""
    return next((entry.value for entry in entry_points(group=group, name=name)), None)
