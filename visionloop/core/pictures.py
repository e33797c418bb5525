"""The one way in which Pillow opens an image: by its content, and as one of a few formats."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

# Each import registers a decoder, which `formats` needs.
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # isort: skip

#: The formats of images that are read, by Pillow's names, whatever a file is called. No other decoder of Pillow's ever sees a
#: file: the one for PostScript runs Ghostscript. An MPO, a JPEG with further pictures behind the first, is opened as a JPEG.
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")

#: The most pixels of an image.
MAX_PIXELS = 178_956_970

# Up to that number Pillow would only warn, and a context that ignores warnings is not safe among threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: What Pillow raises for bytes that it can't decode.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


#: What a file of each format begins with.
_SIGNATURES = (b"BM", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_picture(data: bytes) -> Image.Image:
    """Opens an image; its pixels are decoded when they are asked for.

    Raises:
        UnidentifiedImageError: If it is none of FORMATS.
        DecompressionBombError: If it has more than MAX_PIXELS pixels.
        UNREADABLE: If it is one of FORMATS and damaged.
    """
    # Asked here, for a library may replace Pillow's own open: Ultralytics' installs a decoder for what Pillow does not know.
    if not data.startswith(_SIGNATURES) and not (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        raise UnidentifiedImageError("the bytes begin as no picture does that is read here")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except ImportError as error:
        raise UnidentifiedImageError(str(error)) from error
    # Pillow has the same limit, unless another library took it away.
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS:,}")
    return image
