"""Finds trainers by their entry points, so that a third party's need no change here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError

from visionloop.core import catalog, packages
from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import PROTOCOL, Trainer

TRAINERS = "visionloop.trainers"

#: The order in which trainers are taken where none is named; all others follow by name.
ORDER = ("ultralytics", "torchvision", "timm", "transformers")

#: What is read of every trainer, whether a run takes it or not.
READ_OF_ALL = ("tasks", "policy", "model_task", "requirements")


def trainers() -> dict[str, Trainer]:
    """Every installed trainer by name, whatever protocol it speaks: one that is not asked for stops nobody.

    A trainer of another distribution that can't be loaded, or lacks an attribute that is read of every trainer, is left out with a notice.
    """
    usable: dict[str, Trainer] = {}
    for name, loaded in catalog.loaded(TRAINERS, "trainer").items():
        if lacking := [attribute for attribute in READ_OF_ALL if not hasattr(loaded, attribute)]:
            catalog.pass_over(
                "trainer", name, f"it has no {', '.join(lacking)}; visionloop trainer check {name} says what it needs."
            )
        else:
            usable[name] = loaded
    return usable


def trainer(name: str) -> Trainer:
    """The trainer of this name.

    Raises:
        InvalidConfig: If it is not installed, listing those that are, or speaks another protocol.
    """
    name = spelled(name)
    return check_protocol(catalog.find(TRAINERS, name, "trainer"), name)


def spelled(name: str) -> str:
    """A trainer's name as its entry point spells it, for a name in any case; one that is not installed stays as it is."""
    wanted = name.strip().lower()
    return next((own for own in catalog.names(TRAINERS) if own.lower() == wanted), name)


def check_protocol(trainer: Trainer, name: str) -> Trainer:
    """Returns a trainer that speaks this protocol. Raises InvalidConfig, with what to add, for another one."""
    spoken = getattr(trainer, "protocol", 1)
    if spoken != PROTOCOL:
        raise InvalidConfig(
            f"The trainer {name} speaks version {spoken} of the trainers' protocol, and this Visionloop version {PROTOCOL}: add "
            f"protocol = {PROTOCOL} to it, and a predictor that takes arrays and gives Prediction (visionloop.training.trainers)."
        )
    return trainer


def reference(name: str) -> str | None:
    """Module and object of an installed trainer, as in "package.module:TRAINER"; None if its entry point names neither."""
    value = catalog.value(TRAINERS, name)
    return value if isinstance(value, str) else None


def in_order(names: Iterable[str]) -> list[str]:
    """Trainers' names in the order in which they are taken where none is named."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def missing(trainer: Trainer) -> str | None:
    """The distribution that a trainer needs and that is not installed here: its library, else one of its ``requirements``."""
    distribution = getattr(trainer, "distribution", None)
    if distribution is not None and not packages.is_installed(distribution):
        return str(distribution)
    try:
        trainer.requirements()
    except PackageNotFoundError as error:
        return str(error.name)
    return None


def is_installed(trainer: Trainer) -> bool:
    """Whether all that a trainer needs is installed here, as far as the trainer names it."""
    return missing(trainer) is None


def check_installed(trainer: Trainer) -> None:
    """Raises InvalidConfig, with the command that installs it, if something that a trainer needs is not installed here."""
    if package := missing(trainer):
        raise InvalidConfig(
            f"The trainer {trainer.name} needs the package {package}, which is not installed here; "
            f"install it with {install_command(trainer)}, or name another trainer."
        )


def install_command(trainer: Trainer) -> str:
    """The command that installs what a trainer needs."""
    brought = catalog.distribution(TRAINERS, trainer.name)
    library = getattr(trainer, "distribution", None) or (brought.name if brought else trainer.name)
    needed = missing(trainer) or library
    return packages.install_command(needed, extra=trainer.name)


def first_installed(trainers: Mapping[str, Trainer], task: str) -> str:
    """The trainer that a training takes where none is named: the first whose library is installed and that has the task.

    Where no trainer has the task it is the first that is installed, which then says which tasks it has.

    Raises:
        InvalidConfig: If none is installed, with the commands that install one.
    """
    names = in_order(trainers)
    able = [name for name in names if task in trainers[name].tasks] or names
    installed = [name for name in able if is_installed(trainers[name])]
    if not installed:
        commands = " or ".join(dict.fromkeys(install_command(trainers[name]) for name in able))
        raise InvalidConfig(f"task {task}: no trainer for it is installed here; install one with {commands}.")
    return installed[0]
