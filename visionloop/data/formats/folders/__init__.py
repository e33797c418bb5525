"""Class folders: each folder of images is named for the class that they show, perhaps below a folder for each split."""

from __future__ import annotations

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.folders.layout import Layout
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.source import Source

#: Folders that hold images of any class.
_NO_CLASSES = frozenset({"images", "labels", "annotations", "data", "jpegimages", "media"})


def recognise(listing: Listing) -> str | None:
    """The first class folders by name, if at least two hold images and none has a name that no class has; else None."""
    layout = Layout.of([key for key in listing.keys if listing.is_image(key)])
    if layout.outside or any(name.lower() in _NO_CLASSES for name in layout.names):
        return None
    # Images deeper down are of a class only where a folder was doubled: a tree of folders may be anything.
    if any(folder != entry.name for entry in layout.entries for folder in entry.folders):
        return None
    names = layout.names
    return " and ".join(f"{name}/" for name in names[:2]) if len(names) > 1 else None


def read(source: Source) -> Annotations:
    """Reads a dataset.

    Raises:
        InvalidConfig: If another task than classification is asked for, or a group.
        InvalidDataset: If there are not at least two class folders, or a key is not one that an image may have.
    """
    from visionloop.data.formats.folders.reader import read_folders

    return read_folders(source)
