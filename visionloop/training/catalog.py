"""Finds trainers by their entry points, so that a third party's need no change here."""

from __future__ import annotations

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import PROTOCOL, Trainer

TRAINERS = "visionloop.trainers"


def trainers() -> dict[str, Trainer]:
    """Every installed trainer by name, whatever protocol it speaks: one that is not asked for stops nobody."""
    return {name: catalog.load(TRAINERS, name) for name in catalog.names(TRAINERS)}


def trainer(name: str) -> Trainer:
    """The trainer of this name.

    Raises:
        InvalidConfig: If it is not installed, listing those that are, or speaks another protocol.
    """
    return check_protocol(catalog.find(TRAINERS, name, "trainer"), name)


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
