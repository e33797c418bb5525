"""The metrics of a weighted split are the library's own of the repeated images."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.training.measurement import OBJECT_METRICS as NAMES
from visionloop.training.measurement.matches import CONFIDENCES, CURVE_POINTS, SMOOTHING, Matches, smoothed
from visionloop.training.trainers.ultralytics.environment import library

CLASSES = 4

Stats = dict[str, list[Any]]


def matched(seed: int, images: int) -> Stats:
    """Random detections and objects of a few classes; one class has no detection, another no object."""
    generator = numpy.random.default_rng(seed)
    stats: Stats = {"tp": [], "conf": [], "pred_cls": [], "target_cls": []}
    for _ in range(images):
        detections, objects = generator.integers(0, 9), generator.integers(0, 5)
        predicted = generator.integers(1, CLASSES, detections).astype(numpy.float32)
        true = generator.integers(0, CLASSES - 1, objects).astype(numpy.float32)
        right = generator.random((detections, 1)) > numpy.linspace(0.2, 0.9, 10)
        for index in range(CLASSES):  # no more right ones than there are objects
            own = predicted == index
            right[own] &= right[own].cumsum(axis=0) <= (true == index).sum()
        stats["tp"].append(right)
        stats["conf"].append(generator.random(detections, dtype=numpy.float32))
        stats["pred_cls"].append(predicted)
        stats["target_cls"].append(true)
    return stats


def matches_of(stats: Stats) -> Matches:
    """Their matches, as the trainer makes them."""
    from visionloop.training.trainers.ultralytics import validation  # loads the library

    return validation.matches_of(stats, "tp")


def of_the_library(stats: Stats, weights: Any) -> Any:
    """What the library makes of the images, each repeated: its ``Metric``."""
    metrics = library().utils.metrics
    rows = {
        name: numpy.concatenate([rows for rows, weight in zip(values, weights, strict=True) for _ in range(weight)])
        for name, values in stats.items()
    }
    results = metrics.ap_per_class(rows["tp"], rows["conf"], rows["pred_cls"], rows["target_cls"])
    box = metrics.Metric()
    box.update(results[2:])
    return box


@pytest.mark.parametrize("seed", range(3))
def test_with_every_weight_1_they_are_the_librarys_own(seed: int) -> None:
    stats = matched(seed, images=60)
    weights = numpy.ones(60, int)
    box = of_the_library(stats, weights)
    expected = dict(zip(NAMES, box.mean_results(), strict=True))
    assert 0 < expected["mAP50-95"] < expected["mAP50"] < 1
    measured = matches_of(stats)
    assert {name: measured.metric(name, weights) for name in NAMES} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_and_curves_of_a_class_are_the_librarys_own(seed: int) -> None:
    stats = matched(seed, images=60)
    box = of_the_library(stats, numpy.ones(60, int))
    matches = matches_of(stats)
    assert list(matches.per_class()) == box.ap_class_index.tolist()
    for row, values in enumerate(matches.per_class().values()):
        assert tuple(values.values()) == pytest.approx(box.class_result(row), abs=1e-12)
    assert (box.px == CONFIDENCES).all()
    result = matches.class_curves()
    assert list(result) == list(matches.per_class())
    for row, curves in enumerate(result.values()):
        assert curves.precision == pytest.approx(box.prec_values[row][CURVE_POINTS], abs=1e-12)
        assert curves.f1 == pytest.approx(box.f1_curve[row][CURVE_POINTS], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_smoothing_is_the_librarys_to_the_last_bit(seed: int) -> None:
    values = numpy.random.default_rng(seed).random(1000)
    values[200:500] = 0.7  # where all are equal, the first is to be the largest
    values[-30:] = 0
    assert (smoothed(values, SMOOTHING) == library().utils.metrics.smooth(values, SMOOTHING)).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=8, max_size=30).filter(any))
def test_a_weighted_image_counts_as_if_it_were_repeated(seed: int, weights: list[int]) -> None:
    stats = matched(seed, len(weights))
    measured = {name: matches_of(stats).metric(name, numpy.array(weights)) for name in NAMES}
    if measured["mAP50"] is None:
        assert not any(weight * len(rows) for weight, rows in zip(weights, stats["target_cls"], strict=True))
    else:
        assert measured == pytest.approx(
            dict(zip(NAMES, of_the_library(stats, weights).mean_results(), strict=True)), abs=1e-9
        )


def test_without_an_object_or_a_known_name_nothing_is_measured() -> None:
    matches = matches_of(matched(0, 5))
    assert matches.metric("mAP50", numpy.zeros(5, int)) is None
    assert matches.metric("val_loss", numpy.ones(5, int)) is None
