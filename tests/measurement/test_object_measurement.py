"""The measurement of detection, segmentation and pose: small cases by hand, and what holds for any."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import CLASSES, filled, measured, picture

from visionloop.data.annotations.crowds import Crowd
from visionloop.training.measurement import OBJECT_METRICS, PREFIXES, TASK_METRICS, overlaps
from visionloop.training.measurement.matches import packed, unpacked
from visionloop.training.measurement.objects import (
    BOXES,
    MEASURES,
    Detections,
    ObjectMeasurement,
    Objects,
    matched,
)
from visionloop.training.trainers import Evaluation

ONE = (0, 0, 10, 10)  # a box


def objects(*rows: tuple[int, tuple[float, ...]]) -> Objects:
    """True objects by class index and box."""
    return Objects(np.array([index for index, _ in rows], int), np.array([box for _, box in rows]).reshape(-1, 4))


def detections(*rows: tuple[int, float, tuple[float, ...]]) -> Detections:
    """Detections by class index, confidence and box."""
    return Detections(
        np.array([index for index, _, _ in rows], int),
        np.array([confidence for _, confidence, _ in rows], float),
        np.array([box for *_, box in rows]).reshape(-1, 4),
    )


def evaluated(*images: tuple[Any, ...]) -> Evaluation:
    """The evaluation of detection in images, each the arguments of ``add``."""
    measurement = ObjectMeasurement(CLASSES, (BOXES,), "val")
    for image in images:
        measurement.add(*image)
    return measurement.evaluation()


def test_the_names_of_a_tasks_metrics_begin_as_its_measures_say() -> None:
    assert {task: tuple(measure.prefix for measure in measures) for task, measures in MEASURES.items()} == PREFIXES
    for task, prefixes in PREFIXES.items():
        assert set(TASK_METRICS[task]) <= {prefix + name for prefix in prefixes for name in OBJECT_METRICS}


def test_overlaps_of_boxes() -> None:
    true, detected = (
        np.array([ONE, (20, 20, 30, 40)]),
        np.array([ONE, (5, 0, 15, 10), (20, 20, 30, 30), (50, 50, 50, 50)]),
    )
    assert overlaps.of_boxes(true, detected) == pytest.approx(np.array([[1, 1 / 3, 0, 0], [0, 0, 0.5, 0]]))


def test_overlaps_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    true, detected = generator.random((3, 20, 10)) > 0.5, generator.random((4, 20, 10)) > 0.3
    true[2], detected[3] = False, False
    whole = overlaps.of_masks(true, detected)
    for row, column in np.ndindex(2, 3):
        shared, either = true[row] & detected[column], true[row] | detected[column]
        assert whole[row, column] == pytest.approx(shared.sum() / either.sum())
    assert (whole[2] == 0).all()
    monkeypatch.setattr(overlaps, "PIXELS", 1)  # row by row
    assert (overlaps.of_masks(true, detected) == whole).all()
    assert (overlaps.of_masks(true.astype(np.uint8) * 255, detected) == whole).all()


def test_similarities_of_keypoints() -> None:
    """Of two keypoints σ is a half: with an area of 0.53 × 100, a distance d gives exp(-d² / 106)."""
    true = np.array([[(2, 2, 2), (8, 8, 1)], [(2, 2, 2), (8, 8, 0)], [(2, 2, 0), (8, 8, 0)]])
    detected = np.array([[(2, 2), (8, 8)], [(2, 2), (8, 18)]])
    far = np.exp(-100 / 106)
    expected = np.array([[1, (1 + far) / 2], [1, 1], [0, 0]])
    assert overlaps.of_keypoints(true, np.array([ONE] * 3), detected) == pytest.approx(expected, abs=1e-6)


def test_a_detection_takes_the_object_that_it_overlaps_most_at_each_threshold() -> None:
    # The first overlaps the first object most, which the second would have too; at 0.75 the first has none.
    shared = np.array([[0.7, 0.8], [0.6, 0.55]], np.float32)
    right = unpacked(matched(shared, np.array([1, 1]), np.array([1, 1])))
    assert right[0].tolist() == [True] * 5 + [False] * 5  # 0.5 to 0.7
    assert right[1].tolist() == [True, True, False, False, False, True, True, False, False, False]
    assert not matched(shared, np.array([1, 1]), np.array([2, 0])).any()


def test_an_overlap_at_a_threshold_is_enough() -> None:
    shared = np.linspace(0.5, 0.95, 10)[None].astype(np.float32)
    for number in range(10):
        right = matched(shared[:, number : number + 1], np.array([0]), np.array([0]))
        assert unpacked(right).sum() == number + 1


def test_packed_matches_are_those_that_are_unpacked() -> None:
    right = np.random.default_rng(0).random((50, 10)) > 0.5
    assert (unpacked(packed(right)) == right).all()
    assert unpacked(packed(right[:0])).shape == (0, 10)


def test_a_small_case_by_hand() -> None:
    evaluation = evaluated(
        (detections((0, 0.9, ONE), (0, 0.8, ONE)), objects((0, ONE))),  # right, and once more
        (detections((0, 0.2, ONE), (1, 0.7, ONE)), objects((0, ONE), (3, (50, 50, 60, 60)))),  # right, a wrong class
        (detections(), objects((0, ONE))),  # missed
        (detections((2, 0.6, ONE)), objects()),  # nothing there
    )
    # Precision is 1 up to a recall of 1/3, that of 34 of 101 points, and 2/3 up to 2/3; the first point is half as wide.
    assert evaluation.per_class["ant"]["mAP50"] == pytest.approx((33.5 + 33 * 2 / 3) / 100)
    assert evaluation.per_class["ant"]["mAP50-95"] == pytest.approx(evaluation.per_class["ant"]["mAP50"])
    assert evaluation.per_class["dog"] == dict.fromkeys(OBJECT_METRICS, 0)
    assert set(evaluation.per_class) == {"ant", "dog"}
    assert evaluation.metrics["mAP50"] == pytest.approx(evaluation.per_class["ant"]["mAP50"] / 2)
    assert evaluation.images == 4
    assert evaluation.right == pytest.approx([0.9, 0.2])
    assert evaluation.wrong == pytest.approx([0.8, 0.7, 0.6])
    # Rows predicted, columns true; the detection of 0.2 does not count, so its object went to the bee.
    expected = np.zeros((6, 6), int)
    expected[0, 0], expected[0, 5], expected[1, 0], expected[5, 3], expected[5, 0], expected[2, 5] = [1] * 6
    assert evaluation.confusion == expected.tolist()
    assert evaluation.not_measured == {}
    absent = dict.fromkeys(OBJECT_METRICS, "the split val has no object of this class")
    assert evaluation.not_measured_per_class == dict.fromkeys(("bee", "cow", "eel"), absent)
    assert [len(evaluation.curves["ant"].precision), len(evaluation.curves["ant"].f1)] == [101, 101]
    assert evaluation.curves["ant"].precision[::25] == pytest.approx([1, 1, 2 / 3, 0, 0])


@pytest.mark.parametrize("task", MEASURES)
def test_without_an_object_each_metric_has_its_reason(task: str) -> None:
    measurement = ObjectMeasurement(CLASSES, MEASURES[task], "val")
    assert (measurement.metrics(), measurement.evaluation().images) == ({}, 0)
    box, points = np.array([ONE]), np.zeros((1, 3, 2))
    measurement.add(Detections(np.array([1]), np.array([0.6]), box, filled(box), points), objects())
    evaluation = measurement.evaluation()
    assert (measurement.metrics(), evaluation.metrics, evaluation.per_class, evaluation.curves) == ({}, {}, {}, {})
    names = [measure.prefix + name for measure in MEASURES[task] for name in OBJECT_METRICS]
    assert evaluation.not_measured == dict.fromkeys(names, "the split val has no labelled object")
    assert set(evaluation.not_measured_per_class) == set(CLASSES)
    assert (list(evaluation.right), evaluation.wrong) == ([], pytest.approx([0.6]))
    assert evaluation.resampled is not None
    assert evaluation.resampled("mAP50", np.ones(1, int)) is None


def test_a_detection_in_a_crowd_is_passed_over_unless_it_matches() -> None:
    crowds = [Crowd(0, (0, 0, 0.5, 0.5))]
    outside = (60, 60, 80, 80)
    evaluation = evaluated(
        (
            detections((0, 0.9, ONE), (0, 0.8, ONE), (1, 0.7, ONE), (0, 0.6, outside), (0, 0.5, (-40, -40, 20, 20))),
            objects((0, ONE)),
            crowds,
            (100, 100),
        )
    )
    # Right; in the region; of another class; elsewhere; in the region as far as it is in the picture.
    assert evaluation.right == pytest.approx([0.9])
    assert evaluation.wrong == pytest.approx([0.7, 0.6])
    assert np.sum(evaluation.confusion) == 3
    of_one = ObjectMeasurement(("thing",), (BOXES,), "val")
    of_one.add(detections((0, 0.8, ONE)), objects(), [Crowd(3, (0, 0, 0.5, 0.5))], (100, 100))
    assert list(of_one.evaluation().wrong) == []
    with pytest.raises(ValueError, match="without the size"):
        of_one.add(detections(), objects(), crowds)


@pytest.mark.parametrize(
    ("task", "image", "message"),
    [
        ("detection", (detections((5, 0.5, ONE)), objects()), "detection of class 5, of 5 classes"),
        ("detection", (detections(), objects((-1, ONE))), "object of class -1, of 5 classes"),
        ("segmentation", (detections((0, 0.5, ONE)), objects()), "masks"),
        ("pose", (detections(), objects((0, ONE))), "keypoints"),
    ],
)
def test_what_can_not_be_measured_is_refused(task: str, image: tuple[Detections, Objects], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectMeasurement(CLASSES, MEASURES[task], "val").add(*image)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(tuple(MEASURES)), st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_weights_of_1_are_the_metrics_and_others_those_of_repeated_images(
    seed: int, task: str, weights: list[int]
) -> None:
    generator = np.random.default_rng(seed)
    pictures = [picture(generator, crowds=True, ties=False) for _ in weights]
    measurement = measured(task, pictures)
    resampled = measurement.evaluation().resampled
    assert resampled is not None
    names = [measure.prefix + name for measure in MEASURES[task] for name in OBJECT_METRICS]

    def values(numbers: list[int]) -> dict[str, float]:
        results = {name: resampled(name, np.array(numbers)) for name in names}
        return {name: value for name, value in results.items() if value is not None}

    assert values([1] * len(weights)) == pytest.approx(measurement.metrics(), abs=1e-9)
    repeated = [shown for shown, weight in zip(pictures, weights, strict=True) for _ in range(weight)]
    assert values(weights) == pytest.approx(measured(task, repeated).metrics(), abs=1e-9)
    assert resampled("val_loss", np.ones(len(weights), int)) is None


def test_detections_may_come_in_any_order() -> None:
    generator = np.random.default_rng(1)
    sorted_, mixed = (ObjectMeasurement(CLASSES, MEASURES["pose"], "val") for _ in range(2))
    for _ in range(30):
        shown = picture(generator, ties=False)
        sorted_.add(shown.detections, shown.objects)
        order = generator.permutation(len(shown.detections.classes))
        mixed.add(Detections(*(rows[order] for rows in vars(shown.detections).values())), shown.objects)
    assert sorted_.metrics() == mixed.metrics()
    assert sorted_.evaluation().confusion == mixed.evaluation().confusion


def test_it_loads_no_training_library() -> None:
    code = (
        "import sys, visionloop.training.measurement.images, visionloop.training.measurement.objects\n"
        "print([name for name in ('torch', 'ultralytics', 'cv2', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
