"""A model that looks at a large photograph in tiles as well, so that what is small in it is not shrunk away.

A tile is a square of the picture in its own resolution; neighbours overlap by a fifth, so that what a border cuts is whole in the next
tile unless it is larger than the overlap. The whole picture is looked at too, as without tiles: large objects are found there.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import Prediction, PredictionSettings, Predictor

#: The smallest and the largest side of a tile, in pixels.
SMALLEST, LARGEST = 64, 10_000

#: The least share of a tile's side by which it overlaps the next one.
OVERLAP = 0.2

#: Two boxes of one class are one object from this intersection over union on, and a cut one is part of another from this share of it on.
SAME = 0.5

#: How near to a tile's border an object is cut by it, in pixels.
NEAR = 2.0

_DEFAULTS = PredictionSettings()

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Region:
    """A part of a picture: x1, y1, x2, y2, and which of these sides are the picture's own."""

    box: tuple[int, int, int, int]
    own: tuple[bool, bool, bool, bool]

    def cuts(self, box: _Box) -> bool:
        """Whether an object, in pixels of the picture, may go on beyond the region."""
        return any(
            abs(side - border) <= NEAR for side, border, own in zip(box, self.box, self.own, strict=True) if not own
        )


def parse_tile(text: str | None) -> int | None:
    """The side of a tile in pixels; None where none is asked for. Raises InvalidConfig."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and SMALLEST <= int(text) <= LARGEST):
        raise InvalidConfig(f"--tile {text:.80}: give the side of a tile, {SMALLEST} to {LARGEST:,} pixels.")
    return int(text)


def check_tile(tile: int | None, task: str) -> None:
    """Refuses tiles of a classifier, which looks at whole images. Raises InvalidConfig."""
    if tile is not None and task == "classification":
        raise InvalidConfig("--tile: a classifier looks at whole images; leave it out.")


class TiledPredictor:
    """Looks at each picture as a whole, and at one that is larger than a tile in tiles too (``trainers.Predictor``)."""

    def __init__(self, predictor: Predictor, tile: int) -> None:
        """``tile`` is the side of a tile in pixels."""
        self._predictor, self._tile = predictor, tile
        self.classes = predictor.classes

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        """Yields what each image shows, in their order, the most confident first; masks are not given, outlines are."""
        waiting: deque[list[_Region]] = deque()

        def parts() -> Iterator[NDArray[np.uint8]]:
            for pixels in images:
                regions = _regions(pixels.shape[1], pixels.shape[0], self._tile)
                waiting.append(regions)
                for x1, y1, x2, y2 in (region.box for region in regions):
                    whole = (x2 - x1, y2 - y1) == (pixels.shape[1], pixels.shape[0])
                    yield pixels if whole else np.ascontiguousarray(pixels[y1:y2, x1:x2])

        found = iter(self._predictor.predict(parts(), replace(settings, masks=False)))
        for first in found:
            regions = waiting.popleft()
            rest = itertools.islice(found, len(regions) - 1)
            yield _merged([(region, one) for region, one in zip(regions, (first, *rest), strict=True)])


def _regions(width: int, height: int, tile: int) -> list[_Region]:
    """The whole picture, and its tiles where it is larger than one."""
    whole = _Region((0, 0, width, height), (True, True, True, True))
    if max(width, height) <= tile:
        return [whole]
    spans = [_spans(side, tile) for side in (width, height)]
    tiles = [
        _Region((x1, y1, x2, y2), (x1 == 0, y1 == 0, x2 == width, y2 == height))
        for (y1, y2), (x1, x2) in itertools.product(spans[1], spans[0])
    ]
    return [whole, *tiles]


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along a side, evenly spread."""
    if length <= tile:
        return [(0, length)]
    count = 1 + int(np.ceil((length - tile) / (tile * (1 - OVERLAP))))
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [(start, start + tile) for start in starts]


def _merged(parts: Sequence[tuple[_Region, list[Prediction]]]) -> list[Prediction]:
    """One list of what the parts of a picture show, the most confident first: of what several of them see one stays.

    An object that a border may have cut comes after those that are whole, and goes where most of it lies in one that is left.
    """
    if len(parts) == 1:
        return parts[0][1]
    seen = [(region.cuts(_box(moved)), moved) for region, found in parts for moved in _moved(region, found)]
    seen.sort(key=lambda pair: (pair[0], -pair[1].confidence))
    kept: dict[int, list[Prediction]] = {}
    for cut, one in seen:
        others = kept.setdefault(one.class_index, [])
        if not others or not _is_there(_box(one), np.array([_box(other) for other in others]), cut=cut):
            others.append(one)
    return sorted((one for some in kept.values() for one in some), key=lambda one: -one.confidence)


def _is_there(box: _Box, others: NDArray[np.float64], *, cut: bool) -> bool:
    """Whether an object is one of others."""
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    own = max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return bool((shared / (own + areas - shared) >= SAME).any() or (cut and (shared / own >= SAME).any()))


def _box(prediction: Prediction) -> _Box:
    if prediction.box is None:
        raise ValueError("a class of a whole image has no place in a tile")
    return prediction.box


def _moved(region: _Region, found: Iterable[Prediction]) -> Iterator[Prediction]:
    """What a part shows, in pixels of the picture."""
    left, top = region.box[:2]

    def flat(values: Sequence[float]) -> list[float]:
        return [value + (top if index % 2 else left) for index, value in enumerate(values)]

    for one in found:
        x1, y1, x2, y2 = _box(one)
        yield replace(
            one,
            box=(x1 + left, y1 + top, x2 + left, y2 + top),
            polygons=[flat(polygon) for polygon in one.polygons],
            holes=[flat(hole) for hole in one.holes],
            keypoints={name: (x + left, y + top, confidence) for name, (x, y, confidence) in one.keypoints.items()},
        )
