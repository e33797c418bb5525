"""The bootstrap interval of a metric, and when it makes the verdict doubtful."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import pytest
from toy_detector import Prepared, ToyTrainer, published

from visionloop.components.evaluate.interval import interval, with_doubt
from visionloop.components.evaluate.result import read
from visionloop.training.trainers import Evaluation

METRIC = "mAP50"


def measured(values: list[float], metrics: Mapping[str, float] | None = None) -> Evaluation:
    """An evaluation whose metric is the mean of a value of each image."""

    def mean(metric: str, weights: Any) -> float | None:
        return float(numpy.average(values, weights=weights)) if metric == METRIC and weights.any() else None

    return Evaluation({METRIC: 0.5} if metrics is None else metrics, {}, len(values), resampled=mean)


def test_it_is_that_of_the_mean_and_the_same_each_time() -> None:
    values = [0.0, 1.0] * 200
    bounds = interval(measured(values), METRIC)
    assert bounds is not None
    # The standard error of the mean of 400 values of deviation 0.5 is 0.025.
    assert bounds == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)
    assert interval(measured(values), METRIC) == bounds


def test_there_is_none_without_a_value_samples_or_a_second_image() -> None:
    assert interval(measured([0.5, 1.0], {}), METRIC) is None
    assert interval(Evaluation({METRIC: 0.5}, {}, 2), METRIC) is None
    assert interval(measured([0.5]), METRIC) is None
    assert interval(measured([0.5, 1.0], {"other": 1.0}), "other") is None


def test_a_wide_one_ends_the_reason() -> None:
    assert with_doubt("Better.", METRIC, (0.4, 0.6), 9) == "Better."
    assert with_doubt("Better.", METRIC, None, 9) == "Better."
    doubt = "the test split is small: on 9 images mAP50 may as well be anything from 0.30 to 0.70."
    assert with_doubt("Better.", METRIC, (0.3, 0.7), 9) == f"Better; {doubt}"
    assert with_doubt("Better.", METRIC, None, 1).endswith("the test split is small: it has 1 image.")


@pytest.mark.usefixtures("mlflow_uri")
def test_the_result_the_report_and_the_card_have_it(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    toy.resampled = lambda metric, weights: float(weights[0]) / 2 if metric == "mAP50-95" else None
    outcome = prepared.evaluate(prepared.train(1), name)
    result = read(published(outcome))
    assert result.interval == (0.0, 1.0)
    assert result.reason.endswith("on 2 images mAP50-95 may as well be anything from 0.00 to 1.00.")
    assert "between 0.0000 and 1.0000" in published(outcome).read("report").decode()
    card = published(prepared.register(outcome, name)).read("card").decode()
    assert "lies between 0.0000 and 1.0000 in 95 %" in card
