"""HTML reports: self-contained pages that a browser, KFP's and Argo's UI show as they are."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from PIL import ImageDraw, ImageOps

from visionloop.core import texts
from visionloop.core.memory import decoding
from visionloop.core.pictures import UNREADABLE, open_picture


def _shown(value: Any) -> Any:
    """A value as a page shows it: names from data without control characters, and nobody's password."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.startswith("data:image/"):
        return value
    return texts.outgoing(value)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("visionloop.core.reports", "templates"),
    autoescape=True,  # names that come from data are hostile until escaped
    finalize=_shown,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

#: Longest side of a picture in a report, in pixels, and how small an image may be before it is shown enlarged.
LONGEST_SIDE = 320

_COLOURS = ("#d1242f", "#0969da", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#bc4c00")


@dataclass(frozen=True)
class Box:
    """A box to draw: x, y, width, height in pixels of the image, a text, and a number that chooses its colour."""

    box: tuple[float, float, float, float]
    text: str
    colour: int = 0
    dashed: bool = False


def page(template: str, values: Mapping[str, Any]) -> bytes:
    """Renders a template of this package's ``templates`` folder."""
    return _ENVIRONMENT.get_template(template).render(**values).encode()


def picture(data: bytes, boxes: Sequence[Box]) -> str | None:
    """An image as it is shown, with boxes, as a data URI; None if the bytes are not an image.

    Args:
        data: The image's bytes.
        boxes: What to draw on it.
    """
    try:
        with open_picture(data) as opened, decoding(*opened.size):
            whole = ImageOps.exif_transpose(opened).convert("RGB")
            scale = LONGEST_SIDE / max(whole.size)
            corners = [_corners(item.box, whole.size, scale) for item in boxes]
            image = whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))))
            del whole
    except UNREADABLE:
        return None
    draw = ImageDraw.Draw(image)
    for item, (x, y, right, bottom) in zip(boxes, corners, strict=True):
        colour = _COLOURS[item.colour % len(_COLOURS)]
        draw.rectangle((x, y, right, bottom), outline=colour, width=1 if item.dashed else 2)
        if item.text:
            # Pillow's own font has Latin letters only; others are shown escaped.
            text = item.text.encode("ascii", "backslashreplace").decode()[:24]
            left, top, text_right, text_bottom = draw.textbbox((x + 2, max(0, y - 11)), text)
            draw.rectangle((left - 1, top - 1, text_right + 1, text_bottom + 1), fill=colour)
            draw.text((x + 2, max(0, y - 11)), text, fill="white")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _corners(
    box: tuple[float, float, float, float], size: tuple[int, int], scale: float
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box in the scaled picture; of one that reaches outside what lies at its border.

    A box may have any numbers, and Pillow fails at those that it can't hold.
    """
    x, y, width, height = box
    edges = (x, y, max(x, x + width), max(y, y + height))
    limits = (size[0], size[1], size[0], size[1])
    # min and max of a number that is not one give the other.
    left, top, right, bottom = (scale * min(limit, max(0.0, edge)) for edge, limit in zip(edges, limits, strict=True))
    return left, top, max(left, right), max(top, bottom)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
