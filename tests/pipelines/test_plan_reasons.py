"""What plan says of a parameter that differs."""

from __future__ import annotations

import pytest

from visionloop.pipelines.plan import LONGEST_TEXT, MISSING, changes

GATE = {
    "primary_metric": "mAP50-95",
    "primary_metric_mode": "max",
    "floor": 0.0,
    "epsilon": 0.0,
    "incomparable": "keep",
}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("epochs", 20, 30, ["epochs 20 → 30"]),
        ("augment", True, False, ["augment true → false"]),
        ("freeze", None, 3, ["freeze empty → 3"]),
        ("lr0", 0.0123456789, 0.0123456788, ["lr0 0.0123456789 → 0.0123456788"]),
        ("devices", MISSING, 2, ["devices (none) → 2"]),
        ("gate", GATE, {**GATE, "floor": 0.5}, ["gate.floor 0 → 0.5"]),
        ("gate", GATE, {**GATE, "floor": None, "epsilon": 0.1}, ["gate.floor 0 → empty", "gate.epsilon 0 → 0.1"]),
        ("gate", GATE, {**GATE, "must_pass": "a"}, ["gate.must_pass (none) → a"]),
        ("split", {"rule": {"val": 0.1, "seed": 0}}, {"rule": {"val": 0.1, "seed": 1}}, ["split.rule.seed 0 → 1"]),
    ],
)
def test_the_field_that_differs_is_named(name: str, old: object, new: object, said: list[str]) -> None:
    assert changes(name, old, new) == said


@pytest.mark.parametrize("before", [0, 30, 200])
@pytest.mark.parametrize("after", [0, 500])
def test_two_texts_are_never_cut_before_the_difference(before: int, after: int) -> None:
    (said,) = changes("dataset", "a" * before + "OLD" + "z" * after, "a" * before + "NEW" + "z" * after)
    old, new = said.removeprefix("dataset ").split(" → ")
    assert "OLD" in old
    assert "NEW" in new
    assert max(len(old), len(new)) <= LONGEST_TEXT + 2
