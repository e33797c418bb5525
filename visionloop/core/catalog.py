"""Finds stages by their entry points, so that a third party's stages need no change here."""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.stage import Stage
from visionloop.core.stdout import stdout_to_stderr

STAGES = "visionloop.stages"

#: The distribution of this package.
OWN = "visionloop"

#: The most existing names that a sentence lists.
MOST_NAMES = 10


def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """The installed entry points of a group, or those of a name in it."""
    return [entry for entry in _installed(tuple(sys.path), group) if name in (None, entry.name)]


@cache
def _installed(path: tuple[str, ...], group: str) -> list[EntryPoint]:
    """Those of the distributions on a path, read once: a stage asks some ten times, and each reading takes 10 ms and more."""
    return list(metadata.entry_points(group=group))


def stages() -> dict[str, Stage]:
    """Every installed stage by name."""
    return loaded(STAGES, "stage")


def stage(name: str) -> Stage:
    """The stage of this name. Raises InvalidConfig, listing the installed stages."""
    return find(STAGES, name, "stage")  # type: ignore[no-any-return]


def names(group: str) -> list[str]:
    """The names of a group's entry points, sorted."""
    return sorted(entry.name for entry in entry_points(group=group))


def find(group: str, name: str, kind: str) -> Any:
    """The object that an entry point names.

    Raises:
        InvalidConfig: If there is none of this name, listing the installed ones of this kind, or another distribution brings it
            and its module can't be imported.
    """
    installed = names(group)
    if name not in installed:
        raise InvalidConfig(f"There is no {kind} '{name}'; there are {', '.join(installed[:MOST_NAMES])}.")
    target, problem = _load_or_problem(group, name, kind)
    if problem:
        raise InvalidConfig(problem)
    return target


def loaded(group: str, kind: str) -> dict[str, Any]:
    """Every object of a group by name; one of another distribution that can't be loaded is left out with a notice."""
    objects = {}
    for name in names(group):
        objects[name], problem = _load_or_problem(group, name, kind)
        if problem:
            del objects[name]
            pass_over(kind, name, problem)
    return objects


def _load_or_problem(group: str, name: str, kind: str) -> tuple[Any, str]:
    """The object that an entry point names, or why it can't be loaded where another distribution brings it."""
    try:
        return load(group, name), ""
    except Exception as error:
        brought = distribution(group, name)
        if brought is None or brought.name == OWN:
            raise
        return None, (
            f"The {kind} {name} can't be loaded ({type(error).__name__}: {error}); "
            f"correct the distribution {brought.name} that brings it, or uninstall that."
        )


@cache
def pass_over(kind: str, name: str, why: str) -> None:
    """Says once that an object which nobody named is left out."""
    notice(f"{kind} {name} is passed over: {why}")


@cache
def load(group: str, name: str) -> Any:
    """The object that an installed entry point names, imported once; what its module prints goes to stderr."""
    (entry, *_) = entry_points(group=group, name=name)
    try:
        with stdout_to_stderr():
            return entry.load()
    except SystemExit as error:
        raise RuntimeError(f"its module ends the process with {error.code}") from error


def distribution(group: str, name: str) -> Distribution | None:
    """The distribution that brings an entry point; None if it is not installed."""
    return next((entry.dist for entry in entry_points(group=group, name=name)), None)


def value(group: str, name: str) -> str | None:
    """What an entry point says, "module:object"; None if it is not installed."""
    return next((entry.value for entry in entry_points(group=group, name=name)), None)
