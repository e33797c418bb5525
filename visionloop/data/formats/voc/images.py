"""Where the image of an XML file lies: under the XML's own name, in JPEGImages/, images/ or beside it."""

from __future__ import annotations

from collections.abc import Iterator

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.hints import near
from visionloop.data.formats.keys import Keys, stem
from visionloop.data.formats.names import checked

#: The folders of images, which stand in place of the XML files' folder.
FOLDERS = ("JPEGImages", "images")


def image_of(key: str, stated: str, keys: Keys) -> str:
    """The key of an XML file's image, which may be one that does not exist.

    Args:
        key: The XML file's key.
        stated: The image's name as the file states it; it counts where no image has the XML's name.
        keys: The dataset's keys.

    Raises:
        InvalidDataset: If two images have the XML's name, or the stated name leads out of the dataset.
    """
    own = stem(key).rpartition("/")[2]
    folders = list(_folders(key))
    for folder in folders:
        images = keys.by_stem.get(f"{folder}{own}", [])
        if len(images) > 1:
            images = [image for image in images if image == f"{folder}{stated}"] or images
        if len(images) > 1:
            raise InvalidDataset(f"{key}: {images[0]} and {images[1]} could both be its image; remove one of them.")
        if images:
            return images[0]
    name = checked(stated, f"{key}: filename") if stated else f"{own}.jpg"
    for folder in folders:
        if f"{folder}{name}" in keys.images:
            return f"{folder}{name}"
    for folder in folders:
        if near(f"{folder}{name}") in keys.nearly:
            return f"{folder}{name}"
    expected = next((folder for folder in folders if folder in keys.image_folders), folders[-1])
    return f"{expected}{name}"


def _folders(key: str) -> Iterator[str]:
    """The folders in which an image may lie, each with its slash: near ones first, the XML's own last."""
    parts = key.split("/")[:-1]
    for level in range(len(parts) - 1, -1, -1):
        above, below = parts[:level], parts[level + 1 :]
        for folder in FOLDERS:
            yield _joined([*above, folder, *below])
            if below:
                yield _joined([*above, folder])
    if not parts:
        yield from (_joined([folder]) for folder in FOLDERS)
    yield _joined(parts)


def _joined(parts: list[str]) -> str:
    return "".join(f"{part}/" for part in parts)
