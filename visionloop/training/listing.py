"""What is known of every trainer without its library: whose it is, what it trains, and how it is installed."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core import catalog
from visionloop.core.catalog import OWN
from visionloop.core.errors import InvalidConfig
from visionloop.core.packages import version_of
from visionloop.training.catalog import TRAINERS, check_protocol, install_command, is_installed
from visionloop.training.licences import licence_of
from visionloop.training.trainers import Trainer


@dataclass(frozen=True)
class Entry:
    """A trainer.

    Attributes:
        name: That of its entry point.
        distribution: The library of one of our own; of a third party's the distribution that brings it.
        version: The distribution's; None where it is not installed.
        licence: The library's, as the trainer or the distribution states it; None where neither does.
        tasks: What it trains, sorted.
        image: The image of its training; None for a trainer that can't be loaded.
        installed: Whether its library is.
        install: The command that installs it.
        problem: Why it can't be used; None where it can, or is only not installed.
    """

    name: str
    distribution: str
    version: str | None
    licence: str | None
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
    try:
        trainer = catalog.load(TRAINERS, name)
        check_protocol(trainer, name)
        return _usable(name, trainer, distribution)
    except InvalidConfig as error:
        problem = error.sentence
    except Exception as error:  # noqa: BLE001 - whatever a third party's trainer raises, the others are listed
        problem = f"It can't be used ({type(error).__name__}: {error})."
    install = f"pip install '{OWN}[{name}]'" if distribution == OWN else f"pip install '{distribution}'"
    stated = licence_of(distribution)
    return Entry(name, distribution, version_of(distribution), stated, install=install, problem=problem)


def _usable(name: str, trainer: Trainer, distribution: str) -> Entry:
    """A trainer that was loaded, and the distribution that brings it."""
    library = getattr(trainer, "distribution", None)
    shown = library if distribution == OWN and library else distribution
    return Entry(
        name=name,
        distribution=shown,
        version=version_of(shown),
        licence=getattr(trainer, "licence", None) or licence_of(library or shown),
        tasks=tuple(sorted(trainer.tasks)),
        image=trainer.policy.image,
        installed=is_installed(trainer),
        install=install_command(trainer),
    )
