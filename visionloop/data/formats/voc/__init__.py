"""Pascal VOC: an XML file for each image (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html)."""

from __future__ import annotations

import re

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.source import Source

#: The root's begin, and not that of an element whose name goes on.
_ROOT = re.compile(rb"<annotation[\s/>]")


def recognise(listing: Listing) -> str | None:
    """The first file of this format, or None."""
    return next((key for key, start in listing.xml_starts.items() if _ROOT.search(start.replace(b"\0", b""))), None)


def read(source: Source) -> Annotations:
    """Reads a dataset.

    Raises:
        InvalidConfig: If another task than detection is asked for, or the group names nothing.
        InvalidDataset: If a file is not of this format; the sentence says which field of which file.
    """
    from visionloop.data.formats.voc.reader import read_voc

    return read_voc(source)
