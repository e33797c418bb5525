"""Schedules: a pipeline that an engine starts by itself at the times of a cron expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.following.cron import Cron, zone_named

#: Longest name: Argo's controller appends the time to it (https://argo-workflows.readthedocs.io/en/latest/cron-workflows/).
LONGEST_NAME = 52

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Schedule:
    """A schedule as its engine holds it.

    Attributes:
        name: Its name.
        pipeline: The pipeline that it starts (visionloop-retrain).
        cron: Five fields.
        timezone: The time zone of ``cron``; None if the installation decides.
        state: active or paused.
        last: When it last started a run.
        next: When it will start the next one, as ``cron`` says; None when paused.
        model_name: The model that it retrains.
    """

    name: str
    pipeline: str
    cron: str
    timezone: str | None
    state: str
    last: datetime | None = None
    next: datetime | None = None
    model_name: str | None = None


class Schedules(Protocol):
    """An engine's schedules. Every method raises Transient if nothing answers and AccessDenied if the caller lacks the rights."""

    def create(self, name: str, pipeline: str, arguments: Mapping[str, Any], cron: Cron, timezone: str) -> Schedule:
        """Makes a schedule. Raises InvalidConfig if there is one of that name, or the engine can't do it."""
        ...

    def list(self) -> list[Schedule]:
        """Every schedule of Visionloop's, by name."""
        ...

    def pause(self, name: str) -> None:
        """Starts no more runs. Raises InvalidConfig if there is no such schedule."""
        ...

    def resume(self, name: str) -> None:
        """Starts runs again. Raises InvalidConfig if there is no such schedule."""
        ...

    def delete(self, name: str) -> None:
        """Removes a schedule; what its runs computed stays. Raises InvalidConfig if there is no such schedule."""
        ...


def check_name(name: str) -> str:
    """Returns the name if every engine takes it.

    Raises:
        InvalidConfig: If one does not.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise InvalidConfig(
            f"The schedule's name '{name}' can't be used; give up to {LONGEST_NAME} of a to z, 0 to 9 and '-', a letter or digit at both ends."
        )
    return name


def next_time(cron: str, timezone: str | None, paused: bool) -> datetime | None:
    """When a schedule will start its next run; None if it is paused, or its expression is not one that ``Cron`` reads."""
    if paused:
        return None
    try:
        return Cron.parse(cron).next(datetime.now(zone_named(timezone or "UTC")))
    except InvalidConfig:
        return None
