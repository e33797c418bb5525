"""CVAT's XML for images, version 1.1: one file with all images in it (https://docs.cvat.ai/docs/manual/advanced/xml_format/)."""

from __future__ import annotations

import re

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.source import Source

#: The root's begin, and not that of an element whose name goes on.
_ROOT = re.compile(rb"<annotations[\s/>]")


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, start in listing.xml_starts.items() if is_cvat(start)), None)


def is_cvat(start: bytes) -> bool:
    """Whether an XML file is of this format, by its first bytes."""
    return bool(_ROOT.search(start.replace(b"\0", b"")))


def read(source: Source) -> Annotations:
    """Reads an export.

    Raises:
        InvalidConfig: If nothing is labelled for the task that is asked for, or the group names nothing.
        InvalidDataset: If a file is not of this format, or is of a video; the sentence says which image and shape.
    """
    from visionloop.data.formats.cvat.reader import read_cvat

    return read_cvat(source)
