"""Which format a dataset is read as: the one that is named, else the only one that what lies there fits."""

from __future__ import annotations

from visionloop.core.errors import InvalidConfig, NotFound, VisionloopError
from visionloop.core.storage import Prefix
from visionloop.data.formats import fitting, formats, reader
from visionloop.data.formats.listing import END_BYTES, Listing
from visionloop.data.formats.source import Source


def listing_of(source: Source) -> Listing:
    """All keys of a source, and the ends of those that are looked into; a file that can't be read counts as empty."""
    return Listing(source.objects()["key"].to_pylist(), lambda key: _ends(source.prefix, key))


def choose(source: Source, name: str | None, option: str) -> tuple[str, str | None] | None:
    """The format of a dataset.

    Args:
        source: The dataset.
        name: The format that is asked for, or None to take the one that fits.
        option: The option that names one, for errors (``--format``).

    Returns:
        Its name and what shows it (None where it was asked for); None if nothing fits.

    Raises:
        InvalidConfig: If several fit, or the format is not one that is read.
    """
    if name is not None:
        reader(name)
        return name, None
    fits = fitting(listing_of(source))
    if not fits:
        return None
    if len(fits) > 1:
        titles = " and ".join(f"{formats()[fit].title} ({evidence})" for fit, evidence in fits)
        options = " or ".join(f"{option} {fit}" for fit, _ in fits)
        raise InvalidConfig(f"{source.prefix.uri}: {titles} could both be meant; choose {options}.")
    return fits[0]


def folder_below(source: Source) -> str | None:
    """The only folder that everything lies in, if what lies in it fits a format; None else."""
    keys = source.objects()["key"].to_pylist()
    folder = keys[0].partition("/")[0] if keys else ""
    if not folder or not all(key.startswith(f"{folder}/") for key in keys):
        return None
    below = Listing([key[len(folder) + 1 :] for key in keys], lambda key: _ends(source.prefix, f"{folder}/{key}"))
    return folder if fitting(below) else None


def _ends(prefix: Prefix, key: str) -> tuple[bytes, bytes]:
    try:
        start = prefix.read_start(key, END_BYTES)
        return start, prefix.read_end(key, END_BYTES) if len(start) == END_BYTES else b""
    except (NotFound, VisionloopError):
        return b"", b""
