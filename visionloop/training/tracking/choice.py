"""Which trackers a training is told to: those that ``OBSERVABILITY_BACKENDS`` names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from visionloop.core import catalog, packages
from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.training.tracking.tracker import Tracker

#: The entry points of trackers.
TRACKERS = "visionloop.trackers"

VARIABLE = "OBSERVABILITY_BACKENDS"

#: What is tracked to where the variable is not set.
DEFAULT = "mlflow"

#: What every tracker has.
_ATTRIBUTES = ("why_off", "check", "requirements", "open", "end", "add")


def named(environment: Mapping[str, str]) -> list[str]:
    """The names that the variable holds, each once, in lower case; none where it is empty."""
    words = environment.get(VARIABLE, DEFAULT).split(",")
    return list(dict.fromkeys(name for word in words if (name := word.strip().lower())))


def tracker(name: str) -> Tracker:
    """The tracker of this name.

    Raises:
        InvalidConfig: If it is not installed, listing those that are, or lacks what a tracker has.
    """
    try:
        found: Any = catalog.find(TRACKERS, name, "tracker")
    except InvalidConfig as error:
        raise InvalidConfig(f"{VARIABLE}: {error.sentence}") from error
    if lacking := [attribute for attribute in _ATTRIBUTES if not hasattr(found, attribute)]:
        raise InvalidConfig(f"{VARIABLE}: the tracker {name} has no {', '.join(lacking)}; add it, or name another one.")
    return found  # type: ignore[no-any-return]


def chosen(environment: Mapping[str, str]) -> dict[str, Tracker]:
    """The trackers that are named, by name.

    Raises:
        InvalidConfig: If there is none of a name, or its variables can't be used, or a package that it needs is not installed.
    """
    trackers = {name: tracker(name) for name in named(environment)}
    for name, found in trackers.items():
        if _is_on(name, found, environment):
            _check_installed(name, found, environment)
            _check(name, found, environment)
    return trackers


def check_elsewhere(environment: Mapping[str, str]) -> list[str]:
    """Checks what another image's trackers are told, as far as it can be seen here; returns the names of those that are not installed.

    Raises:
        InvalidConfig: If the variables of a tracker that is known here can't be used.
    """
    known = catalog.names(TRACKERS)
    for name in named(environment):
        if name in known and _is_on(name, found := tracker(name), environment):
            _check(name, found, environment)
    return [name for name in named(environment) if name not in known]


def switched_off(environment: Mapping[str, str], variable: str) -> str | None:
    """Why a tracker that a variable switches off is off; None while it is on."""
    off = environment.get(variable, "").strip().lower() in ("false", "0", "no", "off")
    return f"{variable} is {environment[variable].strip()}." if off else None


def _is_on(name: str, found: Tracker, environment: Mapping[str, str]) -> bool:
    with _faults(name):
        return found.why_off(environment) is None


def _check(name: str, found: Tracker, environment: Mapping[str, str]) -> None:
    with _faults(name):
        found.check(environment)


def _check_installed(name: str, found: Tracker, environment: Mapping[str, str]) -> None:
    with _faults(name):
        needed = list(found.requirements(environment))
    for distribution in needed:
        if not packages.is_installed(distribution):
            raise InvalidConfig(
                f"{VARIABLE}: the tracker {name} needs the package {distribution}, which is not installed here; "
                f"install it with {packages.install_command(distribution, extra=name)}, or leave {name} out."
            )


@contextlib.contextmanager
def _faults(name: str) -> Iterator[None]:
    """Turns what a tracker raises by mistake into an error that names it."""
    try:
        yield
    except VisionloopError:
        raise
    except Exception as error:
        raise InvalidConfig(
            f"{VARIABLE}: the tracker {name} can't be used ({type(error).__name__}: {error}); leave it out."
        ) from error
