"""What is known of an image file from its first bytes."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile

#: The extensions of each format that is read (``core.pictures.FORMATS``).
EXTENSIONS_OF = {
    "BMP": frozenset({".bmp"}),
    "JPEG": frozenset({".jpg", ".jpeg"}),
    "MPO": frozenset({".jpg", ".jpeg"}),
    "PNG": frozenset({".png"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
}

#: Image extensions that the trainers read; they would silently skip a file with another one.
IMAGE_EXTENSIONS = frozenset().union(*EXTENSIONS_OF.values())

#: What each EXIF orientation but 1 does to the stored pixels when they are shown (CIPA DC-008, "Orientation").
ORIENTATIONS = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90°",
    6: "turned by 90° clockwise",
    7: "mirrored and turned by 90°",
    8: "turned by 90° anticlockwise",
}

#: The orientations that exchange width and height.
QUARTER_TURNS = frozenset({5, 6, 7, 8})

#: The number of EXIF's field (CIPA DC-008).
_ORIENTATION = 0x0112

#: What stands before a block in most files.
_EXIF = b"Exif\0\0"

#: EXIF's fields whose text OpenCV reads, by their numbers, and those of fractions with how many. A text or a fraction that is
#: not there ends its reading.
_TEXTS = frozenset({0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298})
_FRACTIONS = {0x011A: 1, 0x011B: 1, 0x013E: 2, 0x013F: 6, 0x0211: 3, 0x0214: 6}


def stated_orientation(image: Image) -> int:
    """The orientation that an opened picture's EXIF blocks state, of any format but TIFF, which Pillow turns itself."""
    if isinstance(image, JpegImageFile):
        # Pillow joins several.
        blocks = [segment for name, segment in image.applist if name == "APP1" and segment.startswith(_EXIF)]
    else:
        blocks = [image.info.get("exif", b"")]
    return exif_orientation(block.removeprefix(_EXIF) for block in blocks)


def exif_orientation(blocks: Iterable[bytes]) -> int:
    """The orientation that EXIF blocks state, read as OpenCV reads it: what it decodes is what is trained on.

    Args:
        blocks: Each from the byte order on. The first one that states anything counts.

    Returns:
        1 to 8; 1 where there is none, or none that counts.
    """
    for block in blocks:
        fields = dict[int, int]()
        with contextlib.suppress(struct.error):  # what ends early counts up to there
            for number, value in _fields(block):
                fields.setdefault(number, value)
        if fields:
            return fields.get(_ORIENTATION, 1) if fields.get(_ORIENTATION) in ORIENTATIONS else 1
    return 1


def _fields(block: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of a block's fields and their first 16 bits, whatever their types are. Raises struct.error where it ends."""
    order = "<" if block[:2] == b"II" else ">"
    (mark, start) = struct.unpack_from(f"{order}HI", block, 2)
    if mark != 42:
        return
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for field in range(start + 2, start + 2 + 12 * count, 12):
        (number,) = struct.unpack_from(f"{order}H", block, field)
        if number in _TEXTS:
            (length,) = struct.unpack_from(f"{order}I", block, field + 4)
            (at,) = struct.unpack_from(f"{order}I", block, field + 8) if length > 4 else (8,)
            struct.unpack_from(f"{length}x", block, at)
        elif number in _FRACTIONS:
            (at,) = struct.unpack_from(f"{order}I", block, field + 8)
            struct.unpack_from(f"{8 * _FRACTIONS[number]}x", block, at)
        (value,) = struct.unpack_from(f"{order}H", block, field + 8)
        yield number, value


@dataclass(frozen=True)
class Header:
    """What is known of an image from its bytes.

    Attributes:
        width: In pixels, as it is shown.
        height: The same.
        orientation: Its EXIF orientation, 1 to 8.
        format: Pillow's name of its format, None where it was not read.
        bits: The bits of a channel.
        pictures: 1, or 2 where there are more than one: pages, or an animation's frames.
    """

    width: int
    height: int
    orientation: int = 1
    format: str | None = None
    bits: int = 8
    pictures: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the stored pixels."""
        turned = self.orientation in QUARTER_TURNS
        return (self.height, self.width) if turned else (self.width, self.height)


@dataclass(frozen=True)
class Missing:
    """An image that its store lacks."""


#: The only one of its kind.
MISSING = Missing()


@dataclass(frozen=True)
class Unsupported:
    """A file that no trainer reads: what it is, as in "is a GIF picture", and what to do."""

    kind: str
    remedy: str = "convert it to JPEG or PNG"
