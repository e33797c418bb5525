"""Label Studio's JSON export: a list of tasks, each with its data and annotations (https://labelstud.io/guide/export)."""

from __future__ import annotations

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline
from visionloop.data.formats.source import Source


def is_label_studio(seen: Outline) -> bool:
    """Whether a JSON file is of this format, by its outline; a task states its data behind its annotations, which may be long."""
    task = seen.first.get("", frozenset())
    return ("data" in task or seen.open) and bool(task & {"annotations", "completions", "predictions"})


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, seen in listing.outlines.items() if is_label_studio(seen)), None)


def read(source: Source) -> Annotations:
    """Reads an export.

    Raises:
        InvalidConfig: If nothing is labelled for the task that is asked for, or the group names nothing.
        InvalidDataset: If a file is not of this format; the sentence says which task and region.
    """
    from visionloop.data.formats.labelstudio.reader import read_label_studio

    return read_label_studio(source)
