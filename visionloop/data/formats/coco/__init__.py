"""COCO's own format: any JSON file with images, annotations and categories at its top (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline
from visionloop.data.formats.source import Source

#: The keys with one of which a file begins; a long one may be all that is seen.
_BEGINNINGS = {"info", "licenses", "images", "annotations", "categories"}


def is_coco(seen: Outline) -> bool:
    """Whether a JSON file is of this format, by its outline.

    A large file shows its first keys alone, and ``categories`` in its last bytes.
    """
    if seen.keys >= {"images", "annotations"} or seen.keys >= {"images", "categories"}:
        return True
    begins = bool(seen.keys & _BEGINNINGS) and "classes" not in seen.keys
    of_annotation = {"image_id", "category_id"} <= seen.first.get("annotations", frozenset())
    return begins and ("categories" in seen.keys | seen.last or of_annotation)


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None; one that calls itself DICE does not count."""
    files = [key for key, seen in listing.outlines.items() if is_coco(seen) and "format_version" not in seen.keys]
    # Captions and image information have no categories: a file with them shows more.
    return min(files, key=lambda key: "categories" not in listing.outlines[key].keys, default=None)


def read(source: Source) -> Annotations:
    """Reads a dataset.

    Raises:
        DatasetNotFound: If there is no file of this format.
        InvalidConfig: If it has no file for the task that was asked for.
        InvalidDataset: If a file is wrong; the sentence says which field.
    """
    from visionloop.data.formats.coco.reader import read_coco

    return read_coco(source)
