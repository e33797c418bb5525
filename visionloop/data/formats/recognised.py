"""Which format a dataset is read as: the one that is named, else the only one that what lies there fits."""

from __future__ import annotations

import functools
import posixpath

from visionloop.core.errors import InvalidConfig, NotFound, VisionloopError
from visionloop.core.storage import Prefix
from visionloop.data.formats import fitting, formats, reader
from visionloop.data.formats.listing import END_BYTES, Listing
from visionloop.data.formats.source import Source


def listing_of(source: Source) -> Listing:
    """All keys of a source, and the ends of those that are looked into; a file that can't be read counts as empty."""
    return Listing(source.objects()["key"].to_pylist(), lambda key: _ends(source.prefix, key))


def choose(source: Source, name: str | None, option: str, *, again: bool = False) -> tuple[str, str | None] | None:
    """The format of a dataset.

    Args:
        source: The dataset.
        name: The format that is asked for, or None to take the one that fits.
        option: The option that names one, for errors (``--format``).
        again: Whether the name is what was recognised before: it counts as long as it fits.

    Returns:
        Its name and what shows it (None where it was asked for); None if nothing fits.

    Raises:
        InvalidConfig: If several fit, or the format is not one that is read.
    """
    if name is not None and not again:
        reader(name, option)
        return name, None
    fits = fitting(listing_of(source), name)
    if not fits:
        return None
    if len(fits) > 1:
        titles = " and ".join(f"{formats()[fit].title} ({evidence})" for fit, evidence in fits)
        options = " or ".join(f"{option} {fit}" for fit, _ in fits)
        raise InvalidConfig(f"{source.prefix.uri}: {titles} could both be meant; choose {options}.")
    return fits[0]


def folder_below(source: Source) -> str | None:
    """The first folder with everything in it that what lies in it makes a dataset; None without one."""
    keys = source.objects()["key"].to_pylist()
    common = posixpath.commonpath([posixpath.dirname(key) for key in keys]) if keys else ""
    folder = ""
    for part in filter(None, common.split("/")):
        folder = f"{folder}{part}/"
        below = Listing([key[len(folder) :] for key in keys], functools.partial(_ends_below, source.prefix, folder))
        if fitting(below):
            return folder.rstrip("/")
    return None


def _ends_below(prefix: Prefix, folder: str, key: str) -> tuple[bytes, bytes]:
    return _ends(prefix, folder + key)


def _ends(prefix: Prefix, key: str) -> tuple[bytes, bytes]:
    try:
        start = prefix.read_start(key, END_BYTES)
        return start, prefix.read_end(key, END_BYTES) if len(start) == END_BYTES else b""
    except (NotFound, VisionloopError):
        return b"", b""
