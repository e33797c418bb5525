"""What cameras, phones, scanners and browsers give: a file counts by its content, and what no trainer reads is named."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from small_datasets import labelled_image

from visionloop.data import drawing
from visionloop.data.annotations.checks import check
from visionloop.data.annotations.findings import Finding
from visionloop.data.headers import Header, Unsupported
from visionloop.data.images import header_of

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 64, 3), np.uint8))
GRAY16 = Image.fromarray((np.arange(32 * 64).reshape(32, 64) * 31).astype(np.uint16))


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def several(kind: str) -> bytes:
    return saved(RGB, kind, save_all=True, append_images=[Image.new("RGB", (64, 32), "red")] * 2)


READ = {
    "gray.jpg": saved(RGB.convert("L"), "JPEG"),
    "cmyk.jpg": saved(RGB.convert("CMYK"), "JPEG"),
    "mpo.jpg": several("MPO"),
    "trailer.jpg": saved(RGB, "JPEG") + b"maker's notes\n",
    "comment.jpg": saved(RGB, "JPEG", comment=b"x" * 60000),
    "palette.png": saved(RGB.convert("P"), "PNG"),
    "rgba.png": saved(RGB.convert("RGBA"), "PNG"),
    "bit.png": saved(RGB.convert("1"), "PNG"),
    "plain.bmp": saved(RGB, "BMP"),
    "plain.webp": saved(RGB, "WEBP"),
    "lzw.tif": saved(RGB, "TIFF", compression="tiff_lzw"),
}
WARNED = {
    "gray16.png": (saved(GRAY16, "PNG"), "bit_depth"),
    "gray16.tif": (saved(GRAY16, "TIFF"), "bit_depth"),
    "animated.webp": (several("WEBP"), "frames"),
    "apng.png": (several("PNG"), "frames"),
    "png.jpg": (saved(RGB, "PNG"), "extension"),
    "jpeg.webp": (saved(RGB, "JPEG"), "extension"),
}
REFUSED = {
    "gif.jpg": (saved(RGB, "GIF"), "image_format", "a GIF picture"),
    "ppm.png": (saved(RGB, "PPM"), "image_format", "a PNM picture"),
    "tga.jpg": (saved(RGB, "TGA"), "image_format", "a TGA picture"),
    "ico.png": (saved(RGB, "ICO", sizes=[(64, 32)]), "image_format", "an icon file"),
    "jp2.jpg": (saved(RGB, "JPEG2000"), "image_format", "a JPEG 2000 picture"),
    "avif.jpg": (saved(RGB, "AVIF"), "image_format", "an AVIF picture"),
    "heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image_format", "a HEIC picture"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 32\n", "image_format", "a PostScript file"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "image_format", "a web page"),
    "bom.jpg": (b"\xef\xbb\xbf\n<HTML>login</HTML>", "image_format", "a web page"),
    "pointer.png": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n",
        "image_format",
        "a Git LFS pointer",
    ),
    "float32.tif": (saved(Image.new("F", (64, 32)), "TIFF"), "image_format", "32-bit floating-point"),
    "int32.tif": (saved(Image.new("I", (64, 32)), "TIFF"), "image_format", "32-bit whole"),
    "pages.tif": (several("TIFF"), "frames", "several pages"),
    "empty.jpg": (b"", "unreadable_image", "can't be read"),
    "noise.jpg": (b"\x93\x17" * 400, "unreadable_image", "can't be read"),
}


def findings(name: str, data: bytes, *, whole: bool = False) -> dict[str, Finding]:
    dataset = labelled_image(name, 64, 32)
    return {finding.code: finding for finding in check(dataset, {name: header_of(data, whole=whole)})}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", READ)
def test_what_the_trainers_read_passes_without_a_word(name: str, whole: bool) -> None:
    assert findings(name, READ[name], whole=whole) == {}
    assert drawing.picture(READ[name], []) is not None


@pytest.mark.parametrize("name", [*READ, *WARNED])
def test_what_passes_is_read_by_opencv_in_the_same_size(name: str) -> None:
    data = READ.get(name) or WARNED[name][0]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    header = header_of(data, whole=False)
    assert isinstance(header, Header)
    assert pixels.shape[:2] == (header.height, header.width)


@pytest.mark.parametrize("name", WARNED)
def test_what_is_read_otherwise_than_meant_is_a_warning(name: str) -> None:
    data, code = WARNED[name]
    results = findings(name, data)
    assert list(results) == [code]
    assert results[code].severity == "warning"
    assert name in results[code].sentence


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_trainer_reads_is_refused_by_its_kind(name: str, whole: bool) -> None:
    data, code, words = REFUSED[name]
    results = findings(name, data, whole=whole)
    assert list(results) == [code]
    assert results[code].severity == "error"
    assert name in results[code].sentence
    assert words in results[code].sentence


@pytest.mark.parametrize("name", ["gif.jpg", "ppm.png", "postscript.png", "tga.jpg", "page.jpg"])
def test_no_picture_is_drawn_of_what_is_not_read(name: str) -> None:
    assert drawing.picture(REFUSED[name][0], []) is None


def test_a_library_that_replaces_pillows_open_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics' own installs a decoder for each file that Pillow does not know."""

    def replaced(*arguments: Any, **more: Any) -> Any:
        pytest.fail("asked")

    monkeypatch.setattr(Image, "open", replaced)
    for data, _, _ in REFUSED.values():
        if not data.startswith((b"II*\0", b"MM\0*")):
            assert not isinstance(header_of(data, whole=True), Header)
            assert drawing.picture(data, []) is None


def test_a_decoder_that_is_not_installed_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(*arguments: Any, **more: Any) -> Any:
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", replaced)
    assert header_of(READ["gray.jpg"][:40], whole=True) is None
    assert drawing.picture(READ["gray.jpg"], []) is None


def test_postscript_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands it to Ghostscript, which can write files."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    marker = Path(tempfile.gettempdir(), "visionloop-ran")
    data = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 32\n({marker}) (w) file closefile\nshowpage\n".encode()
    assert isinstance(header_of(data, whole=True), Unsupported)
    assert drawing.picture(data, []) is None
    assert not marker.exists()
