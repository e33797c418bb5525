"""The one decoder: what is validated, trained on, evaluated and predicted on is the same picture.

The registered model uses it as well.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from visionloop.core.memory import decoding
from visionloop.core.pictures import MAX_PIXELS, UNREADABLE, open_picture
from visionloop.data.lfs import POINTER, is_pointer


class Undecodable(ValueError):
    """The bytes are not a picture that is read here, or a damaged one. The text says which."""


def decode(data: bytes, order: Literal["RGB", "BGR"] = "RGB") -> NDArray[np.uint8]:
    """Decodes an image as it is shown: turned by its EXIF orientation, its first picture alone, without transparency.

    Decodes that run at the same time wait for each other where together they would need more memory than this process has.

    Args:
        data: The whole file: PNG, JPEG, WebP, BMP or TIFF, by content.
        order: The order of the channels.

    Returns:
        Height × width × 3. Of 16 bits a channel the upper 8 count.

    Raises:
        Undecodable: If it is of another format, damaged, cut off, or has more than ``MAX_PIXELS`` pixels.
    """
    with decoded(data) as pixels:
        return pixels if order == "BGR" else np.ascontiguousarray(pixels[..., ::-1])


@contextlib.contextmanager
def decoded(data: bytes) -> Iterator[NDArray[np.uint8]]:
    """As ``decode`` in the order BGR, OpenCV's, which costs no copy; its memory is held for what is done with the pixels, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(data) as header:
                (width, height), kind = header.size, header.format
    except UnidentifiedImageError as error:
        kind = POINTER if is_pointer(data) else "not a PNG, JPEG, WebP, BMP or TIFF picture"
        raise Undecodable(kind) from error
    except Image.DecompressionBombError as error:
        raise Undecodable(f"a picture of more than {MAX_PIXELS:,} pixels") from error
    except UNREADABLE as error:
        raise Undecodable("a damaged picture") from error
    with decoding(width, height):
        pixels = _pixels(data, kind)
        if pixels is None:
            raise Undecodable("a picture that is damaged, cut off, or of a kind that can't be decoded")
        yield pixels


def check(data: bytes) -> None:
    """Decodes an image and keeps nothing of it. Raises Undecodable."""
    shown_size(data)


def shown_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image as it is decoded. Raises Undecodable."""
    with decoded(data) as pixels:
        return pixels.shape[1], pixels.shape[0]


def _pixels(data: bytes, kind: str | None) -> NDArray[np.uint8] | None:
    """The pixels in OpenCV's order, blue first; None where it can't decode them."""
    cv2 = _opencv()
    encoded = np.frombuffer(data, np.uint8)
    try:
        if kind == "TIFF":
            # OpenCV rounds 16 bits of a TIFF to 8, and cuts off those of a PNG.
            stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
            if stored is not None and stored.ndim == 3 and stored.dtype == np.uint16:
                return np.asarray(stored[..., :3] >> 8, np.uint8)
        pixels: NDArray[np.uint8] | None = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return pixels


@functools.cache
def _opencv() -> Any:
    """OpenCV, whose own lines about damaged files say less than the error raised here."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
