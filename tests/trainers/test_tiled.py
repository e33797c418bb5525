"""Tiles of a large photograph: what is small is found there, once, and what is large is found in the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionloop.core.errors import InvalidConfig
from visionloop.training.tiled import SMALLEST, TiledPredictor, check_tile, parse_tile
from visionloop.training.trainers import Prediction, PredictionSettings

_DEFAULTS = PredictionSettings()

#: The share of a picture's longer side below which this model sees nothing.
SEEN = 0.05


class Blobs:
    """Finds what is bright, but for what is small beside the picture: the larger, the more confident."""

    classes: tuple[str, ...] = ("dim", "bright")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        for pixels in images:
            assert pixels.flags.c_contiguous
            self.sizes.append((pixels.shape[1], pixels.shape[0]))
            yield list(self._of(pixels))

    def _of(self, pixels: NDArray[np.uint8]) -> Iterator[Prediction]:
        for index, brightness in enumerate((100, 200)):
            mask = (pixels[..., 0] == brightness).astype(np.uint8)
            for x, y, width, height, _ in cv2.connectedComponentsWithStats(mask)[2][1:].tolist():
                if max(width, height) >= SEEN * max(pixels.shape):
                    confidence = min(1.0, 0.5 + width * height / 100_000)
                    box = (float(x), float(y), float(x + width), float(y + height))
                    outline = [[box[0], box[1], box[2], box[3]]]
                    yield Prediction(index, confidence, box, outline, keypoints={"corner": (box[0], box[1], 1.0)})


def picture(width: int, height: int, *boxes: tuple[int, int, int, int], brightness: int = 200) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = brightness
    return pixels


def boxes_of(found: list[Prediction]) -> list[tuple[float, ...]]:
    return sorted(one.box or () for one in found)


SMALL = [
    (5, 5, 25, 25),  # in a corner of the picture
    (90, 300, 110, 320),  # on the border of a tile
    (700, 500, 720, 520),
    (975, 575, 995, 595),
]


def test_what_is_too_small_in_the_whole_is_found_once_and_in_its_place() -> None:
    pixels = picture(1000, 600, *SMALL)
    (alone,) = Blobs().predict([pixels])
    assert alone == []
    (found,) = TiledPredictor(Blobs(), 200).predict([pixels])
    assert boxes_of(found) == sorted(tuple(map(float, box)) for box in SMALL)
    for one in found:
        assert one.box is not None
        assert list(one.polygons[0]) == list(one.box)
        assert one.keypoints["corner"] == (one.box[0], one.box[1], 1.0)


@pytest.mark.parametrize("shift", range(0, 200, 7))
def test_an_object_is_found_once_wherever_the_borders_cut_it(shift: int) -> None:
    box = (100 + shift, 150 + shift, 130 + shift, 175 + shift)
    (found,) = TiledPredictor(Blobs(), 200).predict([picture(1000, 600, box)])
    assert boxes_of(found) == [tuple(map(float, box))]


def test_what_is_larger_than_a_tile_is_found_in_the_whole_and_its_pieces_go() -> None:
    large = (150, 100, 650, 450)
    (found,) = TiledPredictor(Blobs(), 200).predict([picture(1000, 600, large, (800, 500, 820, 520))])
    assert boxes_of(found) == [tuple(map(float, large)), (800.0, 500.0, 820.0, 520.0)]
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)


def test_objects_of_other_classes_stay_beside_each_other() -> None:
    pixels = picture(1000, 600, (300, 300, 340, 340))
    pixels[305:335, 305:335] = 100
    (found,) = TiledPredictor(Blobs(), 200).predict([pixels])
    assert sorted(one.class_index for one in found) == [0, 1]


def test_a_picture_that_is_no_larger_than_a_tile_is_looked_at_as_without_tiles() -> None:
    blobs, pictures = Blobs(), [picture(200, 120, (20, 20, 60, 60)), picture(201, 120, (20, 20, 60, 60))]
    found = list(TiledPredictor(blobs, 200).predict(pictures))
    assert blobs.sizes == [(200, 120), (201, 120), (200, 120), (200, 120)]
    assert found[0] == next(iter(Blobs().predict([pictures[0]])))
    assert boxes_of(found[1]) == boxes_of(found[0])


def test_the_tiles_cover_the_picture_and_overlap() -> None:
    blobs = Blobs()
    list(TiledPredictor(blobs, 640).predict([picture(1920, 1080)]))
    # Four by two, beside the whole.
    assert blobs.sizes == [(1920, 1080), *[(640, 640)] * 8]


@pytest.mark.parametrize("text", ["0", "63", "-640", "640.0", "10001", "a", "１００"])
def test_a_side_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="give the side of a tile, 64 to 10,000 pixels"):
        parse_tile(text)


def test_a_side_is_a_whole_number_of_pixels() -> None:
    assert [parse_tile(text) for text in ("", None, "640", str(SMALLEST))] == [None, None, 640, 64]
    check_tile(640, "detection")
    with pytest.raises(InvalidConfig, match="a classifier looks at whole images"):
        check_tile(640, "classification")
