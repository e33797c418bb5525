"""``--costs``: what a missed object and a false alarm cost, in any unit, from which the operating point is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.split import listed
from visionloop.data.sentences import printable, shown
from visionloop.training.configuration.option_file import read_option

OPTION = "--costs"
EXAMPLE = '{"miss": 5, "false_alarm": 1}'

#: The fields: of all classes, or of one.
MISS, FALSE_ALARM = FIELDS = ("miss", "false_alarm")


@dataclass(frozen=True)
class Cost:
    """What one missed object and one false alarm cost; at least one of them is above 0."""

    miss: float = 1.0
    false_alarm: float = 1.0

    def content(self) -> dict[str, float]:
        """By name."""
        return {MISS: self.miss, FALSE_ALARM: self.false_alarm}


@dataclass(frozen=True)
class Costs:
    """The costs: of classes without their own, and by class name."""

    default: Cost = Cost()
    classes: Mapping[str, Cost] = field(default_factory=dict)

    def of(self, name: str) -> Cost:
        """Those of a class."""
        return self.classes.get(name, self.default)

    def content(self) -> dict[str, Any]:
        """As they are part of a key: one class's only where they are others than all classes have."""
        own = {name: cost.content() for name, cost in sorted(self.classes.items()) if cost != self.default}
        return self.default.content() | own

    def text(self) -> str:
        """The same as JSON, for an engine's form."""
        return msgspec.json.encode(self.content(), order="sorted").decode()

    def check_classes(self, classes: Sequence[str]) -> None:
        """Refuses a class that the dataset does not have. Raises InvalidConfig."""
        unknown = next((name for name in self.classes if name not in classes), None)
        if unknown is not None:
            raise InvalidConfig(
                printable(f"{OPTION}: {shown(unknown)} is not a class here; the classes are {listed(classes, 10)}.")
            )


def parse_costs(argument: str) -> Costs:
    """Reads costs.

    Args:
        argument: A path, a URI, or the JSON or YAML itself: ``miss`` and ``false_alarm``, numbers from 0 (1 where left out), and by
            class name an object with these two for that class alone.

    Raises:
        InvalidConfig: If it can't be read, or a value is not a number from 0.
    """
    where, value = read_option(OPTION, argument, EXAMPLE)
    if not isinstance(value, Mapping):
        raise InvalidConfig(printable(f"{where}: not an object; write costs as in {EXAMPLE}."))
    own = {str(name): entry for name, entry in value.items() if isinstance(entry, Mapping)}
    default = _cost(where, {name: entry for name, entry in value.items() if not isinstance(entry, Mapping)}, Cost())
    return Costs(default, {name: _cost(f"{where}: {shown(name)}", entry, default) for name, entry in own.items()})


def _cost(where: str, values: Mapping[Any, Any], default: Cost) -> Cost:
    """The costs that an object names, those of ``default`` where it does not."""
    read = default.content()
    for name, value in values.items():
        if name not in FIELDS:
            raise InvalidConfig(
                printable(
                    f"{where}: {shown(str(name))} is neither {MISS} nor {FALSE_ALARM}, and has no costs of a class; write "
                    f'them as in {EXAMPLE} or {{"person": {{"{MISS}": 10}}}}.'
                )
            )
        read[name] = _number(f"{where}: {name}", value)
    if not any(read.values()):
        raise InvalidConfig(printable(f"{where}: {MISS} and {FALSE_ALARM} are both 0; give one of them above 0."))
    return Cost(**read)


def _number(where: str, value: object) -> float:
    try:
        # YAML reads 1e-3 as a text.
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        given = shown(value) if isinstance(value, str) else str(value)
        raise InvalidConfig(printable(f"{where} is {given}; give a number from 0."))
    return number
