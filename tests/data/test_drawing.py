"""Pictures of pages: what is drawn lies in the picture whatever its numbers are, a wrong object is always seen, a page has an end."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from visionloop.data.drawing import COLOURS, Album, Mark, colours, picture

WIDTH, HEIGHT = 64, 32


def saved(colour: str = "white") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), colour).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(source: str | None) -> NDArray[np.uint8]:
    assert source is not None
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def red(source: str | None) -> tuple[int, int, int, int]:
    """The left, upper, right and lower border of what is red, in pixels of the picture."""
    shown = pixels(source).astype(int)
    rows, columns = np.nonzero((shown[..., 0] > 200) & (shown[..., 1:] < 100).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


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
    assert picture(saved(), [Mark(box)]) == picture(saved(), [Mark(inside)])


def test_a_wrong_box_is_drawn_where_it_lies():
    left, top, right, bottom = red(picture(saved(), [Mark((16, 8, 24, 16), style="wrong")]))
    assert (left, top, right, bottom) == pytest.approx((80, 40, 200, 120), abs=4)


def test_a_wrong_box_outside_the_image_is_seen_beside_it():
    shown = picture(saved(), [Mark((60, 8, 20, 16), style="wrong")])
    # 80 of the image's pixels lie in the picture's width of 320.
    assert pixels(shown).shape == (HEIGHT * 4, 320, 3)
    assert red(shown) == pytest.approx((240, 32, 319, 96), abs=4)


@pytest.mark.parametrize(
    "mark",
    [
        {"box": (30, 10, 0, 0)},
        {"box": (1e308, 1e308, 1e308, 1e308)},
        {"box": (math.nan, math.inf, 1, 1)},
        {"polygons": [[200, 10, 210, 10, 205, 20]]},
        {"polygons": [[1, 1, math.nan, 5, 1e300, 2, 3]]},
        {"points": [(-500, 9)]},
    ],
)
def test_a_wrong_object_is_seen_whatever_its_numbers_are(mark: dict[str, Any]):
    left, top, right, bottom = red(picture(saved(), [Mark(**mark, style="wrong")]))
    assert right > left
    assert bottom > top


def test_outlines_and_keypoints_are_drawn():
    plain = pixels(picture(saved(), []))
    for mark in (Mark(polygons=[[5, 5, 30, 5, 30, 25]]), Mark(points=[(30, 10)]), Mark((5, 9, 9, 9), text="0.91 狗")):
        assert (pixels(picture(saved(), [mark])) != plain).any()


def test_what_is_no_picture_is_not_drawn():
    assert picture(b"nothing", [Mark((1, 1, 2, 2))]) is None


def test_an_album_ends_at_its_bytes_or_pixels_and_counts_what_is_left_out():
    size = len(str(picture(saved(), [])))
    album = Album(most_bytes=2 * size)
    assert [album.draw(saved(), []) is None for _ in range(4)] == [False, False, True, True]
    assert (album.left_out, album.bytes) == (2, 2 * size)
    album = Album(most_pixels=WIDTH * HEIGHT)
    assert [album.draw(saved(), []) is None for _ in range(2)] == [False, True]
    assert album.left_out == 1
    assert album.draw(b"nothing", []) is None
    assert album.left_out == 1  # there was none to show


def test_a_class_has_its_own_colour_or_the_next_free_one():
    assert colours([5, 2, 2], 8) == {2: COLOURS[2], 5: COLOURS[5]}
    assert colours([70, 14, 3], 80) == {3: COLOURS[0], 14: COLOURS[1], 70: COLOURS[2]}
