"""Pascal VOC: an XML file for each image."""

from __future__ import annotations

from visionloop.data.formats.listing import Listing


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, start in listing.xml_starts.items() if b"<annotation>" in start), None)
