"""COCO's figures, compared with those of pycocotools on the same objects and detections."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionloop.components.evaluate import coco
from visionloop.components.evaluate.coco import RANGES, CocoMeasurement
from visionloop.components.evaluate.scenes import Region, Scene
from visionloop.components.evaluate.shapes import By, Picture, area_of, mask_of, mask_of_runs, overlaps, shape_of
from visionloop.components.evaluate.slicing import LEAST
from visionloop.data.annotations.masks import compressed
from visionloop.training.trainers import Prediction

PICTURE = Picture(240, 320)
CLASSES = ("a", "b", "c")


def ellipse(generator: np.random.Generator, index: int, like: Prediction | None = None) -> Prediction:
    """An object with box and mask, or a detection of one."""
    if like is None:
        x, y = generator.uniform(20, 300), generator.uniform(20, 220)
        across, down = generator.uniform(6, 170, 2)
    else:
        assert like.box is not None
        left, top, right, bottom = like.box
        x, y = (left + right) / 2 + generator.normal(0, 4), (top + bottom) / 2 + generator.normal(0, 4)
        across, down = (right - left) * generator.uniform(0.7, 1.4), (bottom - top) * generator.uniform(0.7, 1.4)
    pixels = np.zeros((PICTURE.height, PICTURE.width), np.uint8)
    cv2.ellipse(pixels, ((x, y), (max(2, across), max(2, down)), 0), 1, -1)
    box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    code = compressed(pixels.astype(bool), 0, 0, PICTURE.height, PICTURE.width)
    return Prediction(index, float(generator.uniform(0.001, 1)), box, mask=code)


def measured(by: By, images: int = 20) -> CocoMeasurement:
    """Random scenes: some objects found several times, as another class or not at all, and crowd regions."""
    generator = np.random.default_rng(7)
    measurement = CocoMeasurement(CLASSES, by)
    for number in range(images):
        truth = tuple(ellipse(generator, int(generator.integers(2))) for _ in range(number % 7))
        found = [
            ellipse(generator, entry.class_index if generator.random() < 0.8 else 2, entry)
            for entry in truth
            for _ in range(int(generator.integers(0, 3)))
        ]
        # More than are counted of a class.
        found += [ellipse(generator, int(generator.integers(3))) for _ in range(400 if number == 5 else 6)]
        found.sort(key=lambda entry: -entry.confidence)
        shapes = [shape_of(entry, by, PICTURE) for entry in truth]
        regions = [Region(index, shape_of(ellipse(generator, 0), by, PICTURE)) for index in (None, 1)][: number % 3]
        scene = Scene(PICTURE, truth, tuple(shapes), tuple(map(area_of, shapes)), tuple(regions))
        measurement.add(scene, found, [shape_of(entry, by, PICTURE) for entry in found])
    return measurement


def of_pycocotools(measurement: CocoMeasurement) -> list[float]:
    true, predicted = COCO(), COCO()
    for part, dataset in zip((true, predicted), measurement.datasets(), strict=True):
        part.dataset = dataset
        part.createIndex()
    evaluation = COCOeval(true, predicted, measurement.by)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("by", ["bbox", "segm"])
def test_every_figure_is_that_of_pycocotools(by: By) -> None:
    measurement = measured(by)
    stats = measurement.stats()
    with contextlib.redirect_stdout(io.StringIO()):
        assert stats == pytest.approx(of_pycocotools(measurement), abs=1e-12)
    assert all(0 < value < 1 for value in stats)
    figures, sizes = measurement.result()
    assert list(figures.values()) == [*stats[:3], *stats[6:9]]
    for number, (name, values) in enumerate(sizes.items()):
        few = values["objects"] < LEAST
        expected = {} if few else {"AP": stats[3 + number], "AR": stats[9 + number]}
        assert values == {"objects": values["objects"]} | expected, name


def test_sizes_are_cocos() -> None:
    areas = [0.0, 32**2, 32**2 + 1, 96**2, 96**2 + 1]
    assert [[lowest <= area <= highest for lowest, highest in RANGES] for area in areas] == [
        [True, False, False],
        [True, True, False],
        [False, True, False],
        [False, True, True],
        [False, False, True],
    ]


def test_without_an_object_there_is_no_figure() -> None:
    measurement = CocoMeasurement(CLASSES, "bbox")
    measurement.add(Scene(PICTURE, (), (), (), ()), [Prediction(0, 0.9, (0, 0, 9, 9))], [[0, 0, 9, 9]])
    assert measurement.result() == ({}, {})


def test_without_a_detection_every_figure_is_0() -> None:
    measurement = CocoMeasurement(CLASSES, "bbox")
    measurement.add(Scene(PICTURE, (Prediction(0, 1.0, (0, 0, 9, 9)),), ([0, 0, 9, 9],), (81.0,), ()), [], [])
    assert set(measurement.result()[0].values()) == {0.0}


def test_a_mask_is_the_same_by_its_outline_and_by_its_runs() -> None:
    picture = Picture(10, 10)
    square = mask_of([(2, 2, 6, 2, 6, 6, 2, 6)], picture)
    runs = [22, *[4, 6] * 3, 4, 44]
    assert mask_of_runs(runs, picture) == square
    assert area_of(square) == 16
    assert overlaps([square], [square]).tolist() == [[1.0]]
    half = mask_of([(2, 2, 6, 2, 6, 4, 2, 4)], picture)
    assert overlaps([half], [square]).tolist() == [[0.5]]
    assert overlaps([half], [square], crowds=True).tolist() == [[1.0]]
    nothing: Any = shape_of(Prediction(0, 0.5, (0, 0, 1, 1)), "segm", picture)
    assert (area_of(nothing), overlaps([nothing], [square]).tolist()) == (0, [[0.0]])


def test_only_detections_that_coco_does_not_count_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = measured("bbox")
    monkeypatch.setattr(coco, "MOST", 1000)
    everything = measured("bbox")
    assert len(everything.datasets()[1]["annotations"]) > len(measurement.datasets()[1]["annotations"])
    assert everything.stats() == measurement.stats()
