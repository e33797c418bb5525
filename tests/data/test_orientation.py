"""Width, height and coordinates are of the picture as it is shown: EXIF's orientation is read as OpenCV and browsers read it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_datasets import labelled_image

from visionloop.core.errors import InvalidDataset
from visionloop.core.storage import open_prefix
from visionloop.data import drawing, images
from visionloop.data.annotations.checks import check
from visionloop.data.annotations.tables import Annotations
from visionloop.data.headers import ORIENTATIONS, Header
from visionloop.data.images import ImageCache, ImageRow, header_of, materialise

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
    assert header_of(data[: offset + 2] + b"XX" + data[offset + 4 :], whole=False) == Header(64, 32, 1, "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_report_shows_the_picture_as_it_is_trained_on(orientation: int) -> None:
    data = stored(orientation)
    drawn = drawing.picture(data, [])
    assert drawn is not None
    shown = decoded(base64.b64decode(re.sub("^data:image/jpeg;base64,", "", drawn)))
    wanted = cv2.resize(decoded(data), shown.shape[1::-1])
    assert np.abs(shown.astype(int) - wanted.astype(int)).mean() < 10


def block(order: str, *fields: tuple[int, int, int], cut: int | None = None) -> bytes:
    """An EXIF block: its byte order, and number, type and value of each field."""
    sign = "<" if order == "II" else ">"
    value = {3: "HH", 4: "I", 2: "I", 5: "I"}
    data = struct.pack(f"{sign}2sHIH", order.encode(), 42, 8, len(fields))
    for number, kind, content in fields:
        rest = (content, 0) if kind == 3 else (content,)
        data += struct.pack(f"{sign}HHI{value[kind]}", number, kind, 9 if kind == 2 else 1, *rest)
    return (data + bytes(4))[:cut]


def photograph(*blocks: bytes) -> bytes:
    """A JPEG of 64 × 32 with these EXIF blocks."""
    plain = stored(None)
    segments = [b"Exif\0\0" + data for data in blocks]
    return plain[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + plain[2:]


def png_with_late_block() -> bytes:
    """A PNG whose EXIF block lies behind its pixels."""
    plain, content = stored(None, "PNG"), b"eXIf" + block("MM", (0x112, 3, 6))
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return plain[:-12] + chunk + plain[-12:]


TURNED = (0x112, 3, 6)
ODD = {
    "big-endian": photograph(block("MM", TURNED)), "a long": photograph(block("II", (0x112, 4, 8))), "a long beyond 16 bits": photograph(block("II", (0x112, 4, 65541))),
    "cut off behind it": photograph(block("II", TURNED, cut=20)), "cut off before it": photograph(block("II", TURNED, cut=18)), "stated twice": photograph(block("II", TURNED, (0x112, 3, 1))),
    "two blocks": photograph(block("II", (0x112, 3, 1)), block("II", TURNED)), "an empty block first": photograph(b"II", block("MM", TURNED)), "another mark": photograph(b"XX" + block("MM", TURNED)[2:]),
    "a text that is not there": photograph(block("II", (0x110, 2, 9999), TURNED)), "a fraction that is not there": photograph(block("II", (0x11A, 5, 9999), TURNED)), "behind the pixels": png_with_late_block(),
}  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_a_block_as_odd_devices_write_it_is_read_as_the_decoder_reads_it(name: str, whole: bool) -> None:
    header = header_of(ODD[name], whole=whole)
    assert isinstance(header, Header)
    assert (header.height, header.width) == decoded(ODD[name]).shape[:2]


def test_the_decoded_picture_counts_where_the_header_was_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "stated_orientation", lambda _: 1)
    assert header_of(stored(6), whole=True) == Header(32, 64, 1, "JPEG")


@pytest.mark.parametrize("cached", [False, True])
def test_a_picture_of_another_size_than_its_labels_is_refused_before_it_is_trained_on(
    cached: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = []
    for name, size in {"right.jpg": (32, 64), "wrong.jpg": (64, 32), "unknown.jpg": None}.items():
        (folder / name).write_bytes(stored(6))
        digest = hashlib.sha256(stored(6)).hexdigest()
        width, height = size or (None, None)
        rows.append(ImageRow(name, name, len(stored(6)), digest, None, "train", width, height))
    cache = ImageCache(tmp_path / "cache")
    prefix = open_prefix(str(folder), "dataset")
    if cached:
        materialise(prefix, [(rows[2], None)], cache)
    sentence = "an image of another width and height than the annotations say: wrong.jpg is 32 × 64 and not 64 × 32;"
    with pytest.raises(InvalidDataset, match=sentence):
        materialise(prefix, [(row, str(tmp_path / "view" / row.file_name)) for row in rows], cache)
    assert {path.name for path in (tmp_path / "view").iterdir()} == {"right.jpg", "unknown.jpg"}


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
