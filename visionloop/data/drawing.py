"""Pictures for pages: an image as it is shown, small, with objects drawn on it. They are decoded by the one decoder."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageDraw

from visionloop.core.pictures import UNREADABLE, open_picture
from visionloop.data.decoding import Undecodable, decode

#: Longest side of a picture in pixels; an image that is smaller is enlarged.
SIDE = 320

#: The largest number of objects drawn on one picture.
MARKS = 500

#: What all pictures of a page may have: bytes as they stand in it, and pixels that were decoded for them.
ALBUM_BYTES = 3_500_000
ALBUM_PIXELS = 1_000_000_000

#: Colours of classes, and that of objects that are only shown for comparison.
COLOURS = ("#e5484d", "#0091ff", "#30a46c", "#f5a623", "#8e4ec6", "#e93d82", "#12a594", "#ad7f58")
QUIET = "#c1c8cd"

_WRONG = "#ff1f1f"
_SURROUND = "#5f6670"

#: How far beyond the image a picture reaches to show a wrong object there, in widths and heights of the image.
_BEYOND = 0.5

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """An object to draw. Numbers are pixels of the image as it is shown, and may be any.

    Attributes:
        box: x, y, width, height.
        polygons: Outlines, each x1, y1, x2, y2 ….
        points: x and y of each.
        colour: A colour as CSS writes it.
        text: A few ASCII characters at its upper left corner.
        style: ``wrong`` stands out and may lie outside the image, ``thin`` is shown for comparison.
    """

    box: tuple[float, float, float, float] | None = None
    polygons: Sequence[Sequence[float]] = ()
    points: Sequence[tuple[float, float]] = ()
    colour: str = COLOURS[0]
    text: str = ""
    style: Literal["plain", "thin", "wrong"] = "plain"


class Album:
    """Draws the pictures of one page, until they have as many bytes or pixels as a page may have."""

    def __init__(self, most_bytes: int = ALBUM_BYTES, most_pixels: int = ALBUM_PIXELS) -> None:
        """``most_bytes`` counts the pictures as they stand in the page."""
        self.most_bytes, self.most_pixels = most_bytes, most_pixels
        self.bytes = self.pixels = self.left_out = 0

    def draw(self, data: bytes, marks: Sequence[Mark], side: int = SIDE) -> str | None:
        """Returns ``picture``; None where it can't be decoded, and where the page is full, which is counted."""
        pixels = _pixels(data)
        if self.pixels + pixels > self.most_pixels or self.bytes >= self.most_bytes:
            self.left_out += 1
            return None
        self.pixels += pixels
        source = picture(data, marks, side)
        if source is not None and self.bytes + len(source) > self.most_bytes:
            self.left_out += 1
            return None
        self.bytes += len(source or "")
        return source


def picture(data: bytes, marks: Sequence[Mark], side: int = SIDE) -> str | None:
    """As ``jpeg``, as a data URI."""
    drawn = jpeg(data, marks, side)
    return None if drawn is None else f"data:image/jpeg;base64,{base64.b64encode(drawn).decode()}"


def jpeg(data: bytes, marks: Sequence[Mark], side: int = SIDE) -> bytes | None:
    """An image as it is shown, with objects, as a JPEG's bytes; None if the bytes can't be decoded.

    Args:
        data: The image's bytes.
        marks: What to draw on it, in this order; the first ``MARKS`` of them.
        side: The longest side in pixels.
    """
    try:
        pixels = decode(data, "BGR")
    except Undecodable:
        return None
    height, width = pixels.shape[:2]
    marks = marks[:MARKS]
    region = _region(width, height, marks)
    scale = side / max(region[2] - region[0], region[3] - region[1])
    small = _resized(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
    del pixels
    sheet = Image.new("RGB", (_length(region[0], region[2], scale), _length(region[1], region[3], scale)), _SURROUND)
    sheet.paste(small, (round(-region[0] * scale), round(-region[1] * scale)))
    pen = _Pen(sheet, region, scale)
    for mark in marks:
        pen.draw(mark)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82, subsampling=0)
    return buffer.getvalue()


def colours(classes: Iterable[int], number: int) -> dict[int, str]:
    """A colour for each class of a picture: the class's own where there are as many colours, else the next free one.

    Args:
        classes: Class indices.
        number: The number of classes in all.
    """
    ordered = sorted(set(classes))
    if number <= len(COLOURS):
        return {index: COLOURS[index % len(COLOURS)] for index in ordered}
    return {index: COLOURS[position % len(COLOURS)] for position, index in enumerate(ordered)}


class _Pen:
    """Draws marks on a sheet that shows a region of an image."""

    def __init__(self, sheet: Image.Image, region: Corners, scale: float) -> None:
        self._draw, self._size, self._region, self._scale = ImageDraw.Draw(sheet), sheet.size, region, scale

    def draw(self, mark: Mark) -> None:
        """Draws one mark; one that stands out has a white edge and is never smaller than the eye can find."""
        if mark.style == "wrong":
            self._lines(mark, "white", 5)
            self._lines(mark, _WRONG, 3)
        else:
            self._lines(mark, mark.colour, 1 if mark.style == "thin" else 2)
        if mark.text:
            self._text(mark)

    def _lines(self, mark: Mark, colour: str, width: int) -> None:
        if mark.box is not None:
            left, top, right, bottom = self._corners(mark.box)
            grown = 5 if mark.style == "wrong" and min(right - left, bottom - top) < 5 else 0
            self._draw.rectangle((left - grown, top - grown, right + grown, bottom + grown), None, colour, width)
        for polygon in mark.polygons:
            outline = [self._point(x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=False)]
            if len(outline) > 1:
                self._draw.line([*outline, outline[0]], colour, width)
        for x, y in mark.points:
            column, row = self._point(x, y)
            self._draw.ellipse((column - width, row - width, column + width, row + width), colour)

    def _text(self, mark: Mark) -> None:
        corners = [self._point(x, y) for x, y in _points(mark)]
        if not corners:
            return
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        # Pillow's own font has Latin letters only.
        text = mark.text.encode("ascii", "replace").decode()[:24]
        corner = (left + 2, max(0.0, top - 11))
        edges = self._draw.textbbox(corner, text)
        self._draw.rectangle((edges[0] - 1, edges[1] - 1, edges[2] + 1, edges[3] + 1), fill=mark.colour)
        self._draw.text(corner, text, fill="white")

    def _corners(self, box: Corners) -> Corners:
        """Left, top, right and bottom on the sheet; of a box that reaches beyond the region what lies at its border."""
        x, y, width, height = box
        left, top = self._point(x, y)
        right, bottom = self._point(max(x, x + width), max(y, y + height))
        return left, top, max(left, right), max(top, bottom)

    def _point(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self._region
        # Pillow fails at numbers that it can't hold; min and max of a number that is not one give the other.
        column, row = self._scale * (min(right, max(left, x)) - left), self._scale * (min(bottom, max(top, y)) - top)
        return min(column, self._size[0] - 1), min(row, self._size[1] - 1)


def _region(width: int, height: int, marks: Sequence[Mark]) -> Corners:
    """The part of the plane that is shown: the image, and around it where a wrong object lies there."""
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    for x, y in (point for mark in marks if mark.style == "wrong" for point in _points(mark)):
        if math.isfinite(x) and math.isfinite(y):
            left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
    return (
        max(left, -_BEYOND * width),
        max(top, -_BEYOND * height),
        min(right, (1 + _BEYOND) * width),
        min(bottom, (1 + _BEYOND) * height),
    )


def _points(mark: Mark) -> Iterator[tuple[float, float]]:
    """All points of a mark."""
    if mark.box is not None:
        x, y, width, height = mark.box
        yield from ((x, y), (x + width, y + height))
    for polygon in mark.polygons:
        yield from zip(polygon[::2], polygon[1::2], strict=False)
    yield from mark.points


def _length(start: float, end: float, scale: float) -> int:
    return max(1, round((end - start) * scale))


def _resized(pixels: Any, size: tuple[int, int]) -> Image.Image:
    """The picture in another size, from OpenCV's order of the channels; no second copy of its own size is made."""
    import cv2

    smaller = size[0] < pixels.shape[1]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
    return Image.fromarray(small[..., ::-1].copy())


def _pixels(data: bytes) -> int:
    """The number of an image's pixels, from its header; 0 where there is none."""
    try:
        with open_picture(data) as image:
            return image.width * image.height
    except UNREADABLE:
        return 0
