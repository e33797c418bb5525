"""Class folders: each folder of images is named for the class that they show, perhaps below a folder for each split."""

from __future__ import annotations

from visionloop.data.formats.listing import SPLIT_WORDS, Listing

#: Folders that hold images of any class.
_NO_CLASSES = frozenset({"images", "labels", "annotations", "data", "jpegimages", "media"})


def recognise(listing: Listing) -> str | None:
    """The first class folders by name, if at least two hold images and none has a name that no class has; else None."""
    folders = [key.split("/")[:-1] for key in listing.keys if listing.is_image(key)]
    if folders and all(parts and parts[0].lower() in SPLIT_WORDS for parts in folders):
        folders = [parts[1:] for parts in folders]
    if not all(len(parts) == 1 and parts[0].lower() not in _NO_CLASSES for parts in folders):
        return None
    names = sorted({parts[0] for parts in folders})
    return " and ".join(f"{name}/" for name in names[:2]) if len(names) > 1 else None
