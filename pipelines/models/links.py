"""Links to a version's files, for somebody who has no keys of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.storage import open_prefix
from visionloop.registry import Registry, resolve

#: The longest time that a presigned link may be good for, in seconds: S3 takes a week.
LONGEST = 7 * 24 * 3600


@dataclass(frozen=True)
class Link:
    """A link to one file.

    Attributes:
        file: Its path in the model's folder.
        size: Its size in bytes.
        url: Where it is fetched from.
        expires_at: Until when (ISO 8601, UTC); None for a file of this machine, whose link does not expire.
    """

    file: str
    size: int
    url: str
    expires_at: str | None


def links(registry: Registry, wanted: str, seconds: int) -> list[Link]:
    """A link to each file of a version, by path.

    Args:
        registry: The registry.
        wanted: ``NAME/VERSION`` or ``NAME@ALIAS``.
        seconds: How long the links are good for, at most a week.

    Raises:
        InvalidConfig: If there is no such version, or the links can't be good for so long.
        InvalidReceipt: If its files are gone.
    """
    if not 1 <= seconds <= LONGEST:
        raise InvalidConfig(f"--expires {seconds}: give a number of seconds from 1 to {LONGEST:,}, a week.")
    uri, _ = resolve.describe(resolve.named(wanted, registry), registry)
    prefix = open_prefix(uri, "results")
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    expires_at = None if prefix.on_files else until.isoformat(timespec="seconds").replace("+00:00", "Z")
    if prefix.on_files:
        notice(f"{uri} is a folder of this machine: its links open here alone, and do not expire.")
    found = sorted(prefix.objects(), key=lambda info: info.key)
    return [Link(info.key, info.size, prefix.link(info.key, seconds), expires_at) for info in found]
