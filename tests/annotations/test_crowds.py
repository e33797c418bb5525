"""Crowd regions, and which detections lie in them."""

from __future__ import annotations

import json

import pytest

from visionloop.components.evaluate.crowds import crowds_of
from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.crowds import Crowd, lies_in
from visionloop.data.annotations.images import Annotation, Image

ALL = (0.0, 0.0, 1.0, 1.0)


def image(*annotations: Annotation, width: int | None = 100, height: int | None = 50) -> Image:
    return Image(row=0, position=0, file_name="a.png", key="a.png", width=width, height=height, annotations=annotations)


def crowd(class_id: int = 1, **geometry: object) -> Annotation:
    return Annotation(position=0, class_id=class_id, iscrowd=True, **geometry)  # type: ignore[arg-type]


def test_a_region_is_its_box_in_shares_of_the_image() -> None:
    entry = Annotation(position=1, class_id=1, bbox=(0, 0, 9, 9))
    result = crowds_of(image(crowd(bbox=(10, 10, 50, 20)), entry, crowd(IGNORED, bbox=(0, 0, 100, 50))), {1: 4})
    assert result == [Crowd(4, (0.1, 0.2, 0.6, 0.6)), Crowd(None, ALL)]


def test_without_a_box_it_is_what_is_around_its_outline_or_its_mask() -> None:
    mask = json.dumps({"size": [50, 100], "counts": [10 * 50 + 5, 10, 90 * 50 - 15]})
    result = crowds_of(image(crowd(polygons=[[10, 5, 30, 5, 20, 25]]), crowd(mask=mask)), {1: 0})
    assert [entry.box for entry in result] == [(0.1, 0.1, 0.3, 0.5), (0.1, 0.1, 0.11, 0.3)]


@pytest.mark.parametrize("mask", ["{}", "7", json.dumps({"size": [50, 100], "counts": [1, 2]}), "none"])
def test_a_region_without_a_place_passes_over_nothing(mask: str) -> None:
    assert crowds_of(image(crowd(mask=mask), crowd()), {1: 0}) == []
    assert crowds_of(image(crowd(bbox=(0, 0, 9, 9)), width=None), {1: 0}) == []


def test_a_class_that_the_model_does_not_have_passes_over_nothing() -> None:
    assert crowds_of(image(crowd(7, bbox=(0, 0, 9, 9))), {1: 0}) == []
    assert crowds_of(image(crowd(1, bbox=(0, 0, 9, 9))), {1: None}) == []


@pytest.mark.parametrize(
    ("region", "box", "lies"),
    [
        (Crowd(None, ALL), (0.2, 0.2, 0.4, 0.4), True),
        (Crowd(3, ALL), (0.2, 0.2, 0.4, 0.4), True),
        (Crowd(2, ALL), (0.2, 0.2, 0.4, 0.4), False),
        (Crowd(None, (0.0, 0.0, 0.5, 1.0)), (0.25, 0.0, 0.75, 1.0), True),  # half of it
        (Crowd(None, (0.0, 0.0, 0.5, 1.0)), (0.26, 0.0, 0.76, 1.0), False),
        (Crowd(None, (0.3, 0.3, 0.4, 0.4)), ALL, False),  # of the detection, not of the region
        (Crowd(None, ALL), (0.5, 0.5, 0.5, 0.6), False),
    ],
)
def test_half_of_a_detection_must_lie_in_it(region: Crowd, box: tuple[float, float, float, float], lies: bool) -> None:
    assert lies_in([region], 3, box) is lies
