"""Width, height and coordinates are of the picture as it is shown: EXIF's orientation is read as OpenCV and browsers read it."""

from __future__ import annotations

import base64
import io
import re

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_datasets import labelled_image

from visionloop.data import drawing
from visionloop.data.annotations.checks import check
from visionloop.data.annotations.tables import Annotations
from visionloop.data.headers import ORIENTATIONS, Header
from visionloop.data.images import header_of

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def stored(orientation: int | None, kind: str = "JPEG", size: tuple[int, int] = (64, 32)) -> bytes:
    """A picture whose upper left quarter is bright, as stored, with an orientation."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif.tobytes() if kind != "TIFF" else exif, quality=95)
    return buffer.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_picture(orientation: int, kind: str, whole: bool) -> None:
    data = stored(orientation, kind)
    header = header_of(data, whole=whole)
    assert isinstance(header, Header)
    assert (header.height, header.width) == decoded(data).shape[:2]
    assert (header.stored, header.orientation) == ((64, 32), orientation)


@pytest.mark.parametrize("orientation", [None, 0, 9, 65535])
def test_an_orientation_that_is_none_counts_as_upright(orientation: int | None) -> None:
    assert header_of(stored(orientation), whole=False) == Header(64, 32, 1, "JPEG")


def test_a_damaged_block_counts_as_none() -> None:
    data = stored(6)
    offset = data.index(b"Exif\0\0") + 6
    assert header_of(data[:offset] + b"XX" + data[offset + 2 :], whole=False) == Header(64, 32, 1, "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_report_shows_the_picture_as_it_is_trained_on(orientation: int) -> None:
    data = stored(orientation)
    drawn = drawing.picture(data, [])
    assert drawn is not None
    shown = decoded(base64.b64decode(re.sub("^data:image/jpeg;base64,", "", drawn)))
    wanted = cv2.resize(decoded(data), shown.shape[1::-1])
    assert np.abs(shown.astype(int) - wanted.astype(int)).mean() < 10


def dataset(width: int, height: int) -> Annotations:
    return labelled_image("phone/0.jpg", width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(64, 32), (32, 32)])
def test_only_what_can_be_two_things_is_told(orientation: int, size: tuple[int, int]) -> None:
    header = header_of(stored(orientation, size=size), whole=False)
    assert isinstance(header, Header)
    shown = (header.width, header.height)
    codes = {f.code: f for f in check(dataset(*shown), {"phone/0.jpg": header})}
    ambiguous = orientation != 1 and shown == size
    assert ("exif_orientation" in codes) == ambiguous
    assert "orientation" not in codes
    if ambiguous:
        assert ORIENTATIONS[orientation] in codes["exif_orientation"].sentence
    else:
        as_stored = {f.code: f for f in check(dataset(*size), {"phone/0.jpg": header})}
        assert ("orientation" in as_stored) == (shown != size)
        if shown != size:
            assert as_stored["orientation"].severity == "error"
            assert f"EXIF orientation {orientation}" in as_stored["orientation"].sentence


def test_another_size_stays_another_size() -> None:
    header = header_of(stored(6), whole=False)
    codes = {finding.code for finding in check(dataset(60, 30), {"phone/0.jpg": header})}
    assert "image_size" in codes
    assert not codes & {"orientation", "exif_orientation"}
