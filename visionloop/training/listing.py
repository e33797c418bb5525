"""What is known of every trainer without its library: whose it is, what it trains, and how it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.training.catalog import TRAINERS, check_protocol
from visionloop.training.licenses import license_of

#: The distribution of this package, whose trainers are extras of it.
OWN = "visionloop"


@dataclass(frozen=True)
class Entry:
    """A trainer.

    Attributes:
        name: That of its entry point.
        distribution: The library of one of our own; of a third party's the distribution that brings it.
        version: The distribution's; None where it is not installed.
        license: The library's, as the trainer or the distribution states it; None where neither does.
        tasks: What it trains, sorted.
        image: The image of its training; None for a trainer that can't be loaded.
        installed: Whether its library is.
        install: The command that installs it.
        problem: Why it can't be used; None where it can, or is only not installed.
    """

    name: str
    distribution: str
    version: str | None
    license: str | None
    tasks: tuple[str, ...] = ()
    image: str | None = None
    installed: bool = False
    install: str = ""
    problem: str | None = None


def listed() -> list[Entry]:
    """Every trainer with an entry point, by name."""
    return [_entry(name) for name in catalog.names(TRAINERS)]


def _entry(name: str) -> Entry:
    brought = catalog.distribution(TRAINERS, name)
    distribution = brought.name if brought else name
    own = distribution == OWN
    install = f"pip install '{OWN}[{name}]'" if own else f"pip install '{distribution}'"
    trainer: Any = None
    problem: str | None = None
    try:
        trainer = catalog.load(TRAINERS, name)
        check_protocol(trainer, name)
    except InvalidConfig as error:
        problem = error.sentence
    except Exception as error:  # noqa: BLE001 - whatever a third party's module raises, the others are listed
        problem = f"It can't be loaded ({type(error).__name__}: {error})."
    if problem is not None:
        stated = license_of(distribution)
        return Entry(name, distribution, _version(distribution), stated, install=install, problem=problem)
    library = getattr(trainer, "distribution", None)
    shown = library if own and library else distribution
    return Entry(
        name=name,
        distribution=shown,
        version=_version(shown),
        license=getattr(trainer, "licence", None) or license_of(library or shown),
        tasks=tuple(sorted(trainer.tasks)),
        image=trainer.policy.image,
        installed=_version(library or shown) is not None,
        install=install,
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
