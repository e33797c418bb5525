"""The images that a registered model is given, in whatever form people have them."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionloop.core.pictures import UNREADABLE
from visionloop.data.decoding import Undecodable, check, decode
from visionloop.data.headers import stated_orientation

#: What MLflow's scoring server sets: a text that a stranger sends is never a path.
SERVED_VARIABLE = "__pyfunc_model_path__"

#: What shows a picture of each EXIF orientation but 1 (CIPA DC-008).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

FORMS = (
    "a path, bytes, base64, a PIL image, an array (height × width, or height × width × 3 in RGB; 8 or 16 bits), "
    "a batch or list of these, or a table with the column image"
)


class InvalidImage(ValueError):
    """Something that is not an image that the model takes; the text says which one, what it is, and what is taken."""


def is_served() -> bool:
    """Whether the model answers requests of others."""
    return SERVED_VARIABLE in os.environ


def encoded_images(model_input: Any, *, served: bool) -> list[bytes]:
    """The images as files' contents, each of which the decoder reads.

    Args:
        model_input: A path, bytes, base64 (also as a data URL), a PIL image, an array, a batch (an array of images), a list of
            these, or a table or mapping with the column ``image``.
        served: Whether a text is base64 and nothing else. Otherwise a text that names a file is a path.

    Raises:
        InvalidImage: If one of them is something else, or can't be decoded.
    """
    return [
        encoded_image(image, f"Image {number} of {len(images)}", served=served)
        for images in [_as_list(model_input)]
        for number, image in enumerate(images, 1)
    ]


def pixels(data: bytes) -> NDArray[np.uint8]:
    """The picture of a file with these contents, as it is shown: height × width × 3 in RGB."""
    return decode(data)


def _as_list(value: Any) -> list[Any]:
    if hasattr(value, "columns") or isinstance(value, Mapping):
        names = list(value.columns if hasattr(value, "columns") else value)
        if "image" not in names:
            raise InvalidImage(f"The table has the columns {', '.join(map(str, names))}; name the one of images image.")
        return _as_list(list(value["image"]) if hasattr(value, "columns") else value["image"])
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OSU":  # texts or bytes, as MLflow's server makes of a list
            return list(value.reshape(-1))
        return list(value) if value.ndim == 4 else [value]
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def encoded_image(image: Any, name: str, *, served: bool) -> bytes:
    """One image as a file's content, which the decoder reads; ``name`` is what sentences call it, all else as ``encoded_images``."""
    if isinstance(image, str):
        data = _of_text(image, name, served=served)
    elif isinstance(image, os.PathLike):
        data = _of_file(Path(image), name)
    elif isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, Image.Image):
        try:
            shown = _plain(image)
        except UNREADABLE as error:
            raise InvalidImage(f"{name} is a PIL image that can't be decoded ({error}); give {FORMS}.") from error
        return _png(_of_array(np.asarray(shown), name))
    elif isinstance(image, np.ndarray):
        return _png(_of_array(image, name))
    else:
        raise InvalidImage(f"{name} is of the type {type(image).__qualname__}; give {FORMS}.")
    try:
        check(data)
    except Undecodable as error:
        raise InvalidImage(f"{name} is {error}; give a PNG, JPEG, WebP, BMP or TIFF.") from error
    return data


def _of_text(text: str, name: str, *, served: bool) -> bytes:
    if not served and _names_a_file(text):
        return _of_file(Path(text), name)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if served:
            raise InvalidImage(f"{name} is a text that is not base64; a served model takes base64 alone.") from error
        raise InvalidImage(
            f"{name} is a text that neither names a file nor is base64 ({text[:80]!r}); give {FORMS}."
        ) from error


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a name can be, or with a NUL
        return False


def _of_file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidImage(f"{name}: {path} can't be read ({error.strerror}); give another path.") from error


def _plain(image: Image.Image) -> Image.Image:
    """The picture as it is shown, in a mode whose pixels are grey or RGB values."""
    image.load()  # a PNG's EXIF block may lie behind its pixels
    turn = _TURNS.get(stated_orientation(image)) if image.format != "TIFF" else None
    shown = image if turn is None else image.transpose(turn)
    return shown if shown.mode.startswith("I;16") or shown.mode in ("L", "RGB") else shown.convert("RGB")


def _of_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Height × width × 3 in RGB."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        shape = " × ".join(map(str, array.shape)) or "no dimension"
        raise InvalidImage(f"{name} is an array of {shape}; give {FORMS}.")
    if array.dtype == np.uint16:
        array = array >> 8
    elif array.dtype.kind not in "iu" or array.min() < 0 or array.max() > np.iinfo(np.uint8).max:
        raise InvalidImage(
            f"{name} is an array of {array.dtype} from {array.min():g} to {array.max():g}; give whole numbers from 0 to 255."
        )
    grey = array.ndim == 2
    return np.ascontiguousarray(np.stack([array] * 3, axis=-1) if grey else array[..., :3], dtype=np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
