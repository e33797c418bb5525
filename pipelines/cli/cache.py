"""``visionloop cache info``, ``verify`` and ``prune``: the images that this machine keeps."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.parallel import parallel_map
from visionloop.data.images import Entry, ImageCache
from visionloop.pipelines.cli.output import Output, show
from visionloop.pipelines.sizes import size_text

application = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look after the images that this machine keeps."
)

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@application.command()
def info(output: Output = None) -> None:
    """Tell where the cache lies, how many images it holds, and its limit.

    Example: visionloop cache info
    """
    cache = ImageCache.of_environment()
    entries = list(cache.entries())
    size = sum(entry.size for entry in entries)
    oldest = min((entry.used for entry in entries), default=None)
    result = {
        "folder": str(cache.folder),
        "images": len(entries),
        "bytes": size,
        "limit_bytes": cache.limit,
        "least_recently_used": datetime.fromtimestamp(oldest, UTC).isoformat(timespec="seconds") if oldest else None,
    }
    lines = [f"{cache.folder}: {len(entries):,} images, {size_text(size)} of at most {size_text(cache.limit)}"]
    if oldest:
        lines.append(f"The least recently used was used last at {result['least_recently_used']}.")
    show(result, lines, output)


@application.command()
def verify(output: Output = None) -> None:
    """Hash every image; damaged ones are removed, and fetched again when they are next needed.

    Example: visionloop cache verify
    """
    cache = ImageCache.of_environment()
    entries = list(cache.entries())

    def check(entry: Entry) -> str | None:
        return None if cache.verify(entry) else entry.path.name

    # Hashing and reading let other threads run.
    names = parallel_map(check, entries, os.cpu_count())
    checked = track(names, "Hashing", len(entries), console=Console(stderr=True), transient=True)
    damaged = [name for name in checked if name]
    result = {"folder": str(cache.folder), "images": len(entries), "damaged": damaged}
    show(result, [f"{cache.folder}: {len(entries):,} images hashed, {len(damaged):,} damaged"], output)
    if damaged:
        raise InvalidDataset(
            f"{cache.folder}: {len(damaged):,} of {len(entries):,} images were damaged and are removed; "
            "nothing else is to be done, they are fetched again when they are next needed."
        )


@application.command()
def prune(
    to: Annotated[
        str | None, typer.Option(help="The size to leave, such as 20GB or 0 (default: the cache's limit).")
    ] = None,
    output: Output = None,
) -> None:
    """Remove the least recently used images until the cache has a size, and what killed runs left half-written.

    Example: visionloop cache prune --to 20GB
    """
    limit = None if to is None else _bytes(to)
    cache = ImageCache.of_environment()
    freed = cache.remove_leftovers() + cache.trim(limit)
    left = sum(entry.size for entry in cache.entries())
    result = {"folder": str(cache.folder), "freed_bytes": freed, "bytes": left}
    show(result, [f"{cache.folder}: {size_text(freed)} freed, {size_text(left)} left"], output)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower(), re.ASCII)
    unit = match[2] if match else ""
    if not match or (unit and not unit.endswith("b")):
        raise InvalidConfig(f"--to {text}: not a size; give bytes, or a number with kB, MB, GB or TB, such as 20GB.")
    return int(float(match[1]) * _UNITS["" if unit == "b" else unit])
