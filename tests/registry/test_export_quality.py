"""How good an export is: by the outputs of its graph, in pixels of the picture, as the trainer's own predictor has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from untrained import PAIRS, checkpoint

from visionloop.components.evaluate.scenes import Scene
from visionloop.components.evaluate.shapes import Picture, shape_of
from visionloop.components.export.comparison import Difference, overlaps
from visionloop.components.export.making import MOST_METRIC, refusal
from visionloop.components.export.quality import Quality, detected
from visionloop.training import catalog
from visionloop.training.trainers import Exported, Prediction, PredictionSettings, Rows

SHORT = ("torchvision", "detection")


@pytest.mark.parametrize(
    ("trainer", "task"),
    [
        pair if pair == SHORT else pytest.param(*pair, marks=pytest.mark.matrix)
        for pair in PAIRS
        if pair[1] != "classification"
    ],
)
def test_what_a_graph_shows_is_what_the_predictor_sees(trainer: str, task: str, tmp_path: Path) -> None:
    # Ultralytics fits a picture that is not square into less than the graph's square.
    size = (96, 96) if trainer == "ultralytics" else (96, 64)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    own, file = catalog.trainer(trainer), checkpoint(trainer, task, tmp_path)
    exported = own.export(file, "onnx", tmp_path)  # type: ignore[attr-defined]
    rows = exported.rows(exported.reference(exported.prepared(pixels)))
    shown = detected(rows, exported, size)
    (seen,) = own.predictor(file).predict([pixels], PredictionSettings(confidence=0.001))
    assert seen
    for entry in seen[:20]:
        assert entry.box is not None
        same = [
            float(overlaps(np.array(entry.box), np.array([other.box]))[0])
            for other in shown
            if other.class_index == entry.class_index and abs(other.confidence - entry.confidence) < 0.01
        ]
        area = (entry.box[2] - entry.box[0]) * (entry.box[3] - entry.box[1])
        assert max(same, default=0.0) > 0.97 or area < 1, entry


def test_a_picture_in_the_middle_of_a_square_is_found_again() -> None:
    from visionloop.training.trainers.ultralytics.environment import library
    from visionloop.training.trainers.ultralytics.export import _located

    library()
    found = _located(64)(np.array([[0, 16, 64, 48], [32, 16, 64, 32]], np.float32), (64, 128))
    assert found.tolist() == [[0, 0, 128, 64], [64, 0, 128, 32]]


def a_graph(*, suppressed: bool = True) -> Exported:
    def nothing(*_: Any) -> Any:
        raise AssertionError

    def located(boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        return boxes * 2

    return Exported(Path(), {}, nothing, nothing, nothing, located, suppressed)


def rows(boxes: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> Rows:
    return Rows(np.array(scores, np.float32), np.array(boxes, np.float32))


def test_a_box_hides_those_of_its_class_where_the_graph_leaves_them() -> None:
    outputs = rows(
        [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 1, 1]], [[0.9, 0], [0.8, 0.7], [0.6, 0], [0, 0]]
    )
    shown = detected(outputs, a_graph(suppressed=False), (40, 50))
    assert [(entry.class_index, round(entry.confidence, 3), entry.box) for entry in shown] == [
        (0, 0.9, (0, 0, 20, 20)),
        (1, 0.7, (0, 0, 20, 18)),
        (0, 0.6, (40, 0, 50, 20)),
    ]
    assert len(detected(outputs, a_graph(), (40, 50))) == 4


def scene(*boxes: tuple[float, float, float, float], index: int = 0) -> Scene:
    picture, truth = Picture(40, 50), tuple(Prediction(index, 1.0, box) for box in boxes)
    shapes = tuple(shape_of(entry, "bbox", picture) for entry in truth)
    return Scene(picture, truth, shapes, tuple(shape[2] * shape[3] for shape in shapes), ())


def test_average_precision_is_that_of_the_labels() -> None:
    right = rows([[0, 0, 10, 10]], [[0.9, 0]])
    for outputs, value in ((right, 1.0), (rows([[15, 0, 25, 10]], [[0.9, 0]]), 0.0)):
        quality = Quality(a_graph(), ("a", "b"))
        quality.add(outputs, scene((0, 0, 20, 20)), (40, 50))
        assert quality.value() == pytest.approx(value)
    unlabelled = Quality(a_graph(), ("a", "b"))
    unlabelled.add(right, scene(), (40, 50))
    assert unlabelled.value() is None


def test_of_whole_images_the_likeliest_class_counts() -> None:
    quality = Quality(a_graph(), ("a", "b"))
    for index in (0, 1, 1, 1):
        truth = Scene(Picture(0, 0), (Prediction(index, 1.0),), (), (), ())
        quality.add(Rows(np.array([[0.2, 0.8]], np.float32)), truth, (40, 50))
    assert quality.value() == 0.75


def test_an_export_that_is_worse_or_better_by_more_than_its_precision_allows_is_refused() -> None:
    assert MOST_METRIC["fp32"] == 0.005
    assert refusal(Difference(), "fp32", 0.5, 0.5049) == ""
    reason = "its metric is 0.5000, the model's 0.5060 (0.005 more or less at most)"
    assert refusal(Difference(), "fp32", 0.5, 0.506) == reason
    assert refusal(Difference(), "fp32", 0.506, 0.5)
    assert refusal(Difference(), "fp32", None, None) == ""
