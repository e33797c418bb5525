"""CVAT's XML for images: one file with all images in it."""

from __future__ import annotations

from visionloop.data.formats.listing import Listing


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, start in listing.xml_starts.items() if b"<annotations" in start), None)
