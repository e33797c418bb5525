"""Matching detections to true boxes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from visionloop.components.evaluate.matching import match, overlap
from visionloop.training.trainers import Prediction


def box(x: float, size: float, index: int = 0, confidence: float = 1.0) -> Prediction:
    return Prediction(index, confidence, (x, 0.0, x + size, size))


def test_a_true_box_is_matched_once_and_by_the_most_confident() -> None:
    truth = [box(0, 10)]
    predicted = [box(1, 10, confidence=0.5), box(2, 10, confidence=0.9)]
    assert match(truth, predicted) == ([], [0])


def test_another_class_or_too_little_overlap_matches_nothing() -> None:
    assert match([box(0, 10)], [box(0, 10, index=1)]) == ([0], [0])
    assert match([box(0, 10)], [box(5, 10)]) == ([0], [0])


def test_overlap_is_a_share_of_the_union() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert overlap((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0


detections = st.lists(
    st.builds(box, st.floats(0, 50), st.floats(1, 50), st.integers(0, 2), st.floats(0, 1)), max_size=8
)


@given(detections, detections)
def test_every_match_is_one_to_one(truth: list[Prediction], predicted: list[Prediction]) -> None:
    missed, wrong = match(truth, predicted)
    assert len(truth) - len(missed) == len(predicted) - len(wrong)
    assert match(truth, truth) == ([], []) or len(set(truth)) < len(truth)
