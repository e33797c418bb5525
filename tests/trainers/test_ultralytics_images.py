"""Ultralytics reads through Visionloop's decoder, which gives each picture as the library's own reader would."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from visionloop.data.decoding import Undecodable, decode
from visionloop.training.trainers.ultralytics.environment import library

NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 4), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65535, (48, 64, 3), np.uint16)
RGB = Image.fromarray(NOISE[..., :3])


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def several(kind: str) -> bytes:
    return saved(RGB, kind, save_all=True, append_images=[Image.new("RGB", RGB.size, "red")])


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(RGB, kind, exif=exif)


def opencv(extension: str, pixels: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(extension, pixels)[1])


PICTURES = {
    **{f"{mode}.jpg": saved(RGB.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")},
    **{f"{mode}.png": saved(RGB.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"{mode}.tif": saved(RGB.convert(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB")},
    **{f"{kind}.tif": saved(RGB, "TIFF", compression=kind) for kind in ("tiff_lzw", "packbits", "tiff_adobe_deflate")},
    **{
        f"turned-{orientation}.{extension}": turned(kind, orientation)
        for orientation in range(1, 9)
        for kind, extension in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"))
    },
    "progressive.jpg": saved(RGB, "JPEG", progressive=True),
    "mpo.jpg": several("MPO"),
    "trailer.jpg": saved(RGB, "JPEG") + b"maker's notes\n",
    "animated.webp": several("WEBP"),
    "animated.png": several("PNG"),
    "plain.bmp": saved(RGB, "BMP"),
    "gray16.png": opencv(".png", DEEP[..., 0]),
    "gray16.tif": opencv(".tif", DEEP[..., 0]),
    "rgb16.png": opencv(".png", DEEP),
    "rgb16.tif": opencv(".tif", DEEP),
    "alpha.tif": opencv(".tif", NOISE),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_pixel_is_the_librarys(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(PICTURES[name])
    expected = library().utils.patches.imread(str(file))
    pixels = decode(PICTURES[name], "BGR")
    assert (pixels.shape, pixels.dtype) == ((expected.shape), np.uint8)
    assert (pixels == expected).all()
    assert (library().data.base.imread(str(file)) == pixels).all()


@pytest.mark.parametrize("data", [saved(RGB, "JPEG")[:-100], saved(Image.new("F", (64, 48)), "TIFF"), b""])
def test_what_the_library_can_not_read_is_not_decoded(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(data)
    assert library().utils.patches.imread(str(file)) is None
    with pytest.raises(Undecodable):
        decode(data)
