"""Why a training ended before its last epoch, and how that is told."""

from __future__ import annotations

from typing import Any

import pytest

from visionloop.components.train.early import ended_early_by, is_good_enough, sentence

SETTINGS: dict[str, Any] = {
    "primary_metric": "mAP50",
    "primary_metric_mode": "max",
    "stop_metric": 0.6,
    "patience": 3,
    "epochs": 10,
}


@pytest.mark.parametrize(
    ("mode", "value", "enough"),
    [("max", 0.59, False), ("max", 0.6, True), ("max", 0.7, True), ("min", 0.7, False), ("min", 0.6, True)],
)
def test_a_value_is_good_enough_on_its_side_of_the_threshold(mode: str, value: float, enough: bool) -> None:
    settings = SETTINGS | {"primary_metric_mode": mode}
    assert is_good_enough(settings, {"mAP50": value, "recall": 0.9}) is enough
    assert not is_good_enough(settings | {"stop_metric": None}, {"mAP50": value})
    assert not is_good_enough(settings, {"val_loss": 0.1})


def test_what_ended_it_is_told() -> None:
    assert ended_early_by(SETTINGS, 10, {"mAP50": 0.9}) is None
    assert ended_early_by(SETTINGS, 4, {"mAP50": 0.6}) == "stop_metric"
    assert ended_early_by(SETTINGS, 7, {"mAP50": 0.2}) == "patience"
    assert ended_early_by(SETTINGS | {"patience": 0}, 7, {"mAP50": 0.2}) is None
    assert sentence(SETTINGS, "stop_metric", 4, 4, 0.61) == (
        "ended well after epoch 4 of 10: its mAP50 of 0.61 reaches stop_metric 0.6."
    )
    assert sentence(SETTINGS, "patience", 7, 4, 0.5) == (
        "ended well after epoch 7 of 10: no mAP50 was better than 0.5, of epoch 4, for 3 epochs (patience)."
    )
