"""Starting weights of other classes: what goes on, what is new, what is dropped."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from visionloop.training import starting as classes_of
from visionloop.training.trainers.ultralytics import starting
from visionloop.training.trainers.ultralytics.environment import library


def classifier(names: dict[int, str]) -> Any:
    model = library().nn.tasks.ClassificationModel("yolo11n-cls.yaml", nc=len(names), verbose=False)
    model.names = names
    return model


def notices(caplog: pytest.LogCaptureFixture, *arguments: Any) -> list[str]:
    with caplog.at_level(logging.INFO):
        starting.tell(*arguments)
    return [record.getMessage() for record in caplog.records]


def test_classes_are_found_by_name_then_without_case_and_white_space() -> None:
    assert classes_of.rows({0: "Car", 1: "car", 2: " van ", 3: "bus"}, ["car", "VAN", "Car", "lorry"]) == [
        1,
        2,
        0,
        None,
    ]


def test_new_and_dropped_classes_are_told(caplog: pytest.LogCaptureFixture) -> None:
    weights = SimpleNamespace(names={0: "car", 1: "van", 2: "bus"})
    assert notices(caplog, weights, "models:/traffic@champion", ("bus", "car", "tram"), ()) == [
        "train: of the classes of the starting weights models:/traffic@champion 2 go on by their names; tram is new, van is dropped."
    ]


@pytest.mark.parametrize("names", [{0: "0", 1: "1"}, {}, None, {0: "car", 1: "van"}])
def test_nothing_is_told_where_nothing_changes(names: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert notices(caplog, SimpleNamespace(names=names), "a.pt", ("van", "car"), ()) == []


def test_another_number_of_keypoints_is_told(caplog: pytest.LogCaptureFixture) -> None:
    weights = SimpleNamespace(names={0: "person"}, kpt_shape=[17, 3])
    assert notices(caplog, weights, "yolo11n-pose", ("person",), ("nose", "tail")) == [
        "train: the starting weights yolo11n-pose find 17 keypoints and the dataset has 2, so what finds them is trained anew; the "
        "rest goes on from the weights."
    ]


def test_a_classifiers_last_layer_goes_on_by_the_classes_names() -> None:
    import torch

    weights, model = classifier({0: "car", 1: "van", 2: "bus"}), classifier(dict(enumerate("wxyz")))
    starting.map_classes(model, weights, ("bus", "car", "tram", "van"))
    rows, source = model.model[-1].linear.weight, weights.model[-1].linear.weight
    assert torch.equal(rows[[0, 1, 3]], source[[2, 0, 1]])
    assert 0 < rows[2].abs().max() < 0.1
    before = rows[2].clone()
    starting.map_classes(model, SimpleNamespace(names={0: "tram"}, model=[object()]), ("tram",))
    assert torch.equal(rows[2], before)
