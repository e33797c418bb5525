"""The measurement of classification: accuracies over all and by class, the confusion matrix, a part of the split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.training.measurement import WITHIN
from visionloop.training.measurement.images import ImageMeasurement

CLASSES = ("ant", "bee", "cow", "dog", "eel", "fox", "gnu")
ABSENT = dict.fromkeys(WITHIN, "the split val has no image of this class")


def measured(scores: Any, true: Any, *, batch: int = 4) -> ImageMeasurement:
    """A measurement of images that are added in batches."""
    measurement = ImageMeasurement(CLASSES, "val")
    for start in range(0, len(true), batch):
        measurement.add(scores[start : start + batch], true[start : start + batch])
    return measurement


def test_a_small_case_by_hand() -> None:
    scores = [
        [0.7, 0.3, 0, 0, 0, 0, 0],  # ant, right
        [0.3, 0.6, 0.1, 0, 0, 0, 0],  # ant, second
        [0.3, 0.25, 0.2, 0.1, 0.09, 0.06, 0],  # fox, sixth
        [0.5, 0.5, 0, 0, 0, 0, 0],  # bee: of two equally likely classes the first is the likeliest
    ]
    measurement = measured(scores, [0, 0, 5, 1], batch=3)
    assert measurement.metrics() == {"accuracy_top1": 0.25, "accuracy_top5": 0.75}
    evaluation = measurement.evaluation()
    assert evaluation.metrics == measurement.metrics()
    assert evaluation.per_class == {
        "ant": {"accuracy_top1": 0.5, "accuracy_top5": 1.0},
        "bee": {"accuracy_top1": 0.0, "accuracy_top5": 1.0},
        "fox": {"accuracy_top1": 0.0, "accuracy_top5": 0.0},
    }
    assert evaluation.not_measured == {}
    assert evaluation.not_measured_per_class == dict.fromkeys(("cow", "dog", "eel", "gnu"), ABSENT)
    rows = np.array(evaluation.confusion)
    assert rows.shape == (7, 7)
    assert rows.sum() == evaluation.images == 4
    assert (rows[0, 0], rows[1, 0], rows[0, 5], rows[0, 1]) == (1, 1, 1, 1)
    assert (list(evaluation.right), list(evaluation.wrong)) == ([0.7], [0.6, 0.3, 0.5])
    assert evaluation.classes == CLASSES
    # Of two ants one is found, with a confidence of 0.7, and the fox and the bee are taken for ants: 0.5 and 0.3.
    assert set(evaluation.curves) == set(evaluation.per_class)
    curves = evaluation.curves["ant"]
    assert (curves.precision[0], curves.precision[49], curves.precision[51]) == (1.0, 1.0, 0.0)
    at = {confidence: curves.f1[round(100 * confidence)] for confidence in (0.6, 0.4, 0.1, 0.8)}
    assert at[0.1] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2), abs=0.01)
    assert at[0.8] == 0
    assert at[0.6] > at[0.4] > at[0.1]
    assert max(evaluation.curves["fox"].f1) == 0


def test_without_an_image_each_metric_has_its_reason() -> None:
    measurement = ImageMeasurement(CLASSES, "val")
    assert measurement.metrics() == {}
    evaluation = measurement.evaluation()
    assert (evaluation.metrics, evaluation.per_class, evaluation.images) == ({}, {}, 0)
    assert evaluation.not_measured == dict.fromkeys(WITHIN, "the split val has no image")
    assert evaluation.not_measured_per_class == dict.fromkeys(CLASSES, ABSENT)
    assert measurement.resampled("accuracy_top1", np.ones(0, int)) is None
    assert evaluation.curves == {}


@pytest.mark.parametrize(
    ("scores", "true"),
    [([[0.5, 0.5]], [0]), ([[1, 0, 0, 0, 0, 0, 0]], [0, 1]), ([[1, 0, 0, 0, 0, 0, 0]], [7]), ([[1] + [0] * 6], [-1])],
)
def test_scores_and_classes_that_do_not_fit_are_refused(scores: Any, true: Any) -> None:
    with pytest.raises(ValueError, match=r"of shape|true classes"):
        ImageMeasurement(CLASSES, "val").add(scores, true)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any))
def test_a_weighted_image_counts_as_if_it_were_repeated(seed: int, weights: list[int]) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (len(weights), len(CLASSES))) / 4
    true = generator.integers(0, len(CLASSES), len(weights))
    repeated = measured(np.repeat(scores, weights, axis=0), np.repeat(true, weights)).metrics()
    measurement = measured(scores, true)
    assert {name: measurement.resampled(name, np.array(weights)) for name in WITHIN} == pytest.approx(repeated)
    assert {name: measurement.resampled(name, np.ones(len(true), int)) for name in WITHIN} == pytest.approx(
        measurement.metrics()
    )
    assert measurement.resampled("val_loss", np.array(weights)) is None
