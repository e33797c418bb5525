"""What is known of an image file from its first bytes."""

from __future__ import annotations

from dataclasses import dataclass

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
