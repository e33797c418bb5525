"""Label Studio's JSON export: a list of tasks, each with its data and annotations."""

from __future__ import annotations

from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline


def is_label_studio(seen: Outline) -> bool:
    """Whether a JSON file is of this format, by its outline."""
    task = seen.first.get("", frozenset())
    return "data" in task and bool(task & {"annotations", "completions", "predictions"})


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, seen in listing.outlines.items() if is_label_studio(seen)), None)
