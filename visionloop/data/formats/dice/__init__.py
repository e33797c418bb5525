"""DICE 1.x: one JSON file for each task, and the images below ``images/`` (docs/dice.md)."""

from __future__ import annotations

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline
from visionloop.data.formats.source import Source

#: The files that are looked for: each task's, and the older one for any task.
_FILES = tuple(f"annotations_{task}.json" for task in ("detection", "segmentation", "classification", "pose"))
_LEGACY = "annotations.json"


def recognise(listing: Listing) -> str | None:
    """The first annotation file at the root, or None; a file of COCO under its name does not count."""
    keys = set(listing.keys)
    for name in (*_FILES, _LEGACY):
        if name in keys:
            seen = listing.outlines.get(name, Outline()).keys
            if "format_version" in seen or (name != _LEGACY and "categories" not in seen):
                return name
    return None


def read(source: Source) -> Annotations:
    """Reads a dataset.

    Raises:
        DatasetNotFound: If there is no annotation file.
        InvalidConfig: If the dataset has several tasks and none was chosen, or the group names nothing.
        InvalidDataset: If the file is not DICE; the sentence says which field.
    """
    from visionloop.data.formats.dice.reader import read_dice

    return read_dice(source)
