"""What a view of a converted dataset holds besides its images: the labels as one archive, the images' sizes, and crowd regions.

A trainer that reads these need not open a million label files, nor an image to learn its size. The crowd regions are there for an
evaluation: no label says where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from visionloop.core.storage import writing
from visionloop.data.annotations.crowds import Crowd
from visionloop.data.archive import read_archive
from visionloop.data.archive import write_archive as write_archive

#: The names of both in a view's folder.
LABELS, SIZES = "labels.tar", "sizes.jsonl"

#: That of the crowd regions, which only a view for an evaluation has.
CROWDS = "crowds.jsonl"

#: How many lines are written at once.
_AT_ONCE = 10_000


class ImageSize(msgspec.Struct, frozen=True, gc=False):
    """An image's path in the view, and its width and height in pixels, as it is shown; None where they are not known.

    They are those of the whole image, also where the view's file is a reduced one.
    """

    path: str
    width: int | None
    height: int | None


class ImageCrowds(msgspec.Struct, frozen=True):
    """An image's path in the view, and its crowd regions."""

    path: str
    crowds: list[Crowd]


#: Made at import: threads that meet a type of msgspec's for the first time end the process.
_SIZES = msgspec.json.Decoder(ImageSize)
_CROWDS = msgspec.json.Decoder(ImageCrowds)


def write_sizes(folder: Path, sizes: Iterable[ImageSize]) -> None:
    """Writes the sizes of a view's images. Raises SickMachine if the disk is full."""
    path, encoder, buffer = folder / SIZES, msgspec.json.Encoder(), bytearray()
    with writing(path), path.open("wb") as file:
        for number, size in enumerate(sizes, 1):
            buffer += encoder.encode(size) + b"\n"
            if number % _AT_ONCE == 0:
                file.write(buffer)
                buffer.clear()
        file.write(buffer)


def write_crowds(folder: Path, images: Iterable[ImageCrowds]) -> None:
    """Writes the crowd regions of the images that have some. Raises SickMachine if the disk is full."""
    path = folder / CROWDS
    with writing(path), path.open("wb") as file:
        for image in images:
            file.write(msgspec.json.encode(image) + b"\n")


def read_crowds(folder: Path) -> dict[str, list[Crowd]]:
    """The crowd regions by the image's path in the view; empty where the view says nothing of them."""
    path = folder / CROWDS
    if not path.is_file():
        return {}
    return {image.path: image.crowds for image in _CROWDS.decode_lines(path.read_bytes())}


def has_labels(folder: Path) -> bool:
    """Whether a folder is a view with an archive of labels; one that a person made has label files alone."""
    return (folder / LABELS).is_file() and (folder / SIZES).is_file()


def read_sizes(folder: Path, split: str) -> dict[str, ImageSize]:
    """The sizes of a split's images, by path in the view."""
    start = f"images/{split}/"
    with (folder / SIZES).open("rb") as file:
        sizes = (_SIZES.decode(line) for line in file)
        return {size.path: size for size in sizes if size.path.startswith(start)}


def read_labels(folder: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """The path in the view and the text of each label file of a split, in the archive's order."""
    start = f"labels/{split}/"
    return ((name, text) for name, text in read_archive(folder / LABELS) if name.startswith(start))
