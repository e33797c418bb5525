"""The kinds of mistakes, and what each costs."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from test_coco import measured, of_pycocotools

from visionloop.components.evaluate.kinds import ASIDE, KINDS, MATCHED, Judged, Kinds, judge
from visionloop.components.evaluate.shapes import overlaps

A, B = 0, 1


def judged(predicted: list[int], true: list[int], shared: list[list[float]], aside: list[bool] | None = None) -> Judged:
    return judge(
        predicted,
        true,
        np.array(shared, float).reshape(len(predicted), len(true)),
        np.array(aside or [False] * len(predicted)),
    )


@pytest.mark.parametrize(
    ("predicted", "shared", "kind", "about"),
    [
        (A, [0.5, 0.0], MATCHED, 0),
        (A, [0.49, 0.0], "localisation", 0),
        (A, [0.1, 0.0], "localisation", 0),
        (A, [0.0, 0.5], "class", 1),
        (A, [0.3, 0.7], "localisation", 0),  # its own class first, as the paper's program has it
        (A, [0.0, 0.49], "both", -1),
        (A, [0.05, 0.3], "both", -1),
        (A, [0.09, 0.1], "background", -1),
        (A, [0.0, 0.0], "background", -1),
    ],
)
def test_a_detection_has_the_kind_of_its_overlaps(predicted: int, shared: list[float], kind: str, about: int) -> None:
    result = judged([predicted], [A, B], [shared])
    assert (result.kinds, result.objects) == ((kind,), (about,))


def test_the_second_detection_of_an_object_is_a_duplicate() -> None:
    result = judged([A, A], [A], [[0.6], [0.9]])
    assert (result.kinds, result.objects, result.unmatched) == ((MATCHED, "duplicate"), (0, 0), ())


def test_an_object_is_missed_where_nothing_is_about_it() -> None:
    result = judged([A, B, A], [A, A, B], [[0.3, 0, 0], [0, 0.8, 0], [0, 0, 0]])
    assert result.kinds == ("localisation", "class", "background")
    assert (result.unmatched, result.missed) == ((0, 1, 2), (2,))
    assert result.counts() == {"localisation": 1, "class": 1, "background": 1, "missed": 1}


def test_a_detection_in_a_crowd_region_is_no_mistake_and_still_matches() -> None:
    result = judged([A, A], [A], [[0.9], [0.2]], aside=[True, True])
    assert (result.kinds, result.wrong) == ((MATCHED, ASIDE), ())


def test_an_image_without_objects_has_background_alone() -> None:
    assert judged([A], [], [[]]).kinds == ("background",)


def test_a_kind_costs_what_its_mistakes_take_from_the_average_precision() -> None:
    """Of twelve objects four are right; the others fail each in one way, so putting a kind right gives its share of recall."""
    kinds = Kinds()
    # By kind: the class that is found, and how much it overlaps the object of class A.
    found = [(A, 0.9)] * 4 + [(B, 0.9)] * 3 + [(A, 0.3)] * 2
    for predicted, overlap in found:
        kinds.add([predicted], [0.9], [A], np.array([[overlap]]), np.array([False]))
    for _ in range(3):
        kinds.add([], [], [A], np.zeros((0, 1)), np.zeros(0, bool))
    result = kinds.result()
    assert {kind: values["count"] for kind, values in result.items()} == {
        **dict.fromkeys(KINDS, 0.0),
        "class": 3,
        "localisation": 2,
        "missed": 3,
    }
    # Precision is 1 as far as recall reaches: 4 of 12, then 7, 6, and 4 of the 9 that are left; of 101 recalls so many are below.
    now = 34 / 101
    assert kinds.average_precision() == pytest.approx(now)
    costs = {kind: values["dAP"] for kind, values in result.items() if values["dAP"] > 0}
    assert costs == pytest.approx({"class": 59 / 101 - now, "localisation": 51 / 101 - now, "missed": 45 / 101 - now})


def test_a_kind_that_is_put_right_alone_leaves_nothing_else() -> None:
    kinds = Kinds()
    for number in range(10):
        shared = [[0.9], [0.9]] if number % 2 else [[0.9]]
        kinds.add(
            [A] * len(shared), [0.9, 0.95][: len(shared)][::-1], [A], np.array(shared), np.zeros(len(shared), bool)
        )
    assert kinds.average_precision() < 1
    assert kinds.average_precision("duplicate") == 1
    result = kinds.result()
    assert result["duplicate"]["dAP"] == pytest.approx(1 - kinds.average_precision())
    assert sum(values["images"] for values in result.values()) == result["duplicate"]["images"] == 5


def test_mistakes_below_the_confidence_cost_and_are_not_counted() -> None:
    kinds = Kinds()
    for _ in range(10):
        shown = kinds.add([A, A], [0.24, 0.2], [A], np.array([[0.3], [0.9]]), np.zeros(2, bool))
        assert (shown.kinds, shown.missed) == ((), (0,))
    result = kinds.result()
    assert (result["localisation"]["count"], result["missed"]["count"]) == (0, 10)
    assert result["localisation"]["dAP"] > 0


def test_too_few_objects_have_no_cost() -> None:
    kinds = Kinds()
    for _ in range(9):
        kinds.add([], [], [A], np.zeros((0, 1)), np.zeros(0, bool))
    assert kinds.result()["missed"] == {"count": 9, "images": 9}


@pytest.mark.parametrize("by", ["bbox", "segm"])
def test_the_average_precision_is_cocos_at_an_overlap_of_a_half(by: str) -> None:
    """On images with fewer detections than either counts; the regions of a crowd are passed over in both."""
    measurement = measured("bbox" if by == "bbox" else "segm", images=5)
    kinds, (true, predicted) = Kinds(), measurement.datasets()
    key = "bbox" if by == "bbox" else "segmentation"
    for image in true["images"]:
        objects = [entry for entry in true["annotations"] if entry["image_id"] == image["id"]]
        found = [entry for entry in predicted["annotations"] if entry["image_id"] == image["id"]]
        real = [entry for entry in objects if not entry["iscrowd"]]
        crowds = [entry for entry in objects if entry["iscrowd"]]
        shapes = [entry[key] for entry in found]
        within = overlaps(shapes, [entry[key] for entry in crowds], crowds=True) >= 0.5
        same = np.array([[entry["category_id"] == crowd["category_id"] for crowd in crowds] for entry in found], bool)
        kinds.add(
            [entry["category_id"] for entry in found],
            [entry["score"] for entry in found],
            [entry["category_id"] for entry in real],
            overlaps(shapes, [entry[key] for entry in real]),
            (within & same.reshape(within.shape)).any(axis=1),
        )
    with contextlib.redirect_stdout(io.StringIO()):
        assert kinds.average_precision() == pytest.approx(of_pycocotools(measurement)[1], abs=1e-12)
