"""Calibration: the share that is right in each bin of confidences, and how far it is from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visionloop.components.evaluate.calibration import Bin, calibration
from visionloop.components.evaluate.curves import calibration_chart
from visionloop.components.evaluate.slicing import LEAST


def test_a_bin_has_the_share_that_is_right_and_the_mean_confidence() -> None:
    result = calibration([0.91] * 12 + [0.61] * 5, [0.93] * 4 + [0.62] * 15)
    assert result is not None
    sure, unsure = result.bins[1], result.bins[0]
    assert (sure.lowest, sure.highest, sure.count, sure.right) == (0.9, 0.95, 16, 0.75)
    assert (unsure.count, unsure.right) == (20, 0.25)
    assert sure.confidence == pytest.approx((12 * 0.91 + 4 * 0.93) / 16)
    expected = (16 * abs(0.75 - (12 * 0.91 + 4 * 0.93) / 16) + 20 * abs(0.25 - (5 * 0.61 + 15 * 0.62) / 20)) / 36
    assert (result.error, result.counted) == (pytest.approx(expected), 36)
    chart = calibration_chart(result)
    assert chart is not None
    assert (chart["error"], chart["counted"], len(chart["lines"])) == (f"{result.error:.3f}", 36, 2)


def test_a_bin_of_too_few_has_its_number_alone_and_no_say_in_the_error() -> None:
    result = calibration([0.52] * LEAST, [0.97] * (LEAST - 1))
    assert result is not None
    assert result.bins[1] == Bin(0.95, 1.0, LEAST - 1)
    assert (result.error, result.counted) == (pytest.approx(0.48), LEAST)
    few = calibration([1.0], [])
    assert few is not None
    assert (few.error, few.counted, few.bins) == (None, 0, [Bin(0.95, 1.0, 1)])
    assert calibration_chart(few) is None


def test_what_is_below_the_least_confidence_or_no_number_does_not_count() -> None:
    assert calibration([0.24, math.nan], [0.1], least=0.25) is None
    assert calibration([], []) is None
    result = calibration([0.25] * LEAST, [0.249] * 1000, least=0.25)
    assert result is not None
    assert (result.counted, result.bins[0].right) == (LEAST, 1.0)


def test_a_model_that_is_right_as_often_as_it_says_has_hardly_an_error() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0, 1, 100_000)
    right = generator.uniform(0, 1, 100_000) < confidences
    true, overconfident = (
        calibration(values[right].tolist(), values[~right].tolist()) for values in (confidences, confidences**0.5)
    )
    assert true is not None
    assert overconfident is not None
    assert true.error is not None
    assert overconfident.error is not None
    assert true.error < 0.01 < 0.15 < overconfident.error
    assert sum(each.count for each in true.bins) == 100_000
