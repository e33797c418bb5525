"""Boxes on a report's pictures: whatever their numbers are, what is drawn lies in the picture."""

from __future__ import annotations

import io
import math

import pytest
from PIL import Image

from visionloop.core.reports import Box, picture


def drawn(*boxes: tuple[float, float, float, float]) -> str | None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32), "white").save(buffer, "PNG")
    return picture(buffer.getvalue(), [Box(box, "") for box in boxes])


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((1e308, 1e308, 1e308, 1e308), (64, 32, 0, 0)),
        ((10, 10, 1e9, 1e9), (10, 10, 54, 22)),
        ((-1e9, -1e300, 2e9, 2e300), (0, 0, 64, 32)),
        ((10, 10, -5, -1e308), (10, 10, 0, 0)),
        ((math.nan, 5, math.inf, 9), (0, 5, 0, 9)),
    ],
)
def test_a_box_is_clipped_before_it_is_drawn(
    box: tuple[float, float, float, float], inside: tuple[float, float, float, float]
):
    assert drawn(box) == drawn(inside)
