"""What there is to learn from and to measure: labels by split, and classes that a split never shows."""

from typing import Any

import numpy as np
import pytest
from dice_samples import annotation, dataset, document, image
from hypothesis import given
from hypothesis import strategies as st

from visionloop.data.annotations import presence
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.presence import absences, count_labels, outcomes

CLASSES = [{"id": 0, "name": "defect"}, {"id": 1, "name": "class 1"}, {"id": 2, "name": "class 2"}]
SPLITS = ("train", "val", "test")


def presence_of(
    train: list[int], val: list[int], test: list[int], crowd: tuple[str, ...] = (), left_out: tuple[str, ...] = ()
) -> list[Finding]:
    """The absences of a dataset with one image a split that holds objects of these classes."""
    images = []
    for split, ids in zip(SPLITS, (train, val, test), strict=True):
        labels = [
            annotation(number, class_id, bbox=[number, 1, 5, 5], iscrowd=int(split in crowd))
            for number, class_id in enumerate(ids)
        ]
        images.append(image(f"{split}.png", annotations=labels))
    value = dataset(document(images, classes=CLASSES))
    names = np.array(value.images["file_name"].to_pylist())
    counts = count_labels(
        value, outcomes(value), {split: names == f"{split}.png" for split in SPLITS}, np.isin(names, left_out)
    )
    return list(absences(value, counts))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"train": [0, 1], "val": [0, 1], "test": [0, 1]}, []),
        ({"train": [0, 1], "val": [0], "test": [0, 1]}, [("warning", "class_absent", '"class 1" has no label in val')]),
        ({"train": [], "val": [0], "test": [0]}, [("error", "no_labels", "of train have no label")]),
        (
            {"train": [0], "val": [0], "test": [0], "crowd": ("train",)},
            [("error", "no_labels", "(left out: crowd: 1)")],
        ),
        (
            {"train": [0], "val": [0], "test": [0], "left_out": ("train.png",)},
            [("error", "no_labels", "image left out")],
        ),
        ({"train": [0], "val": [], "test": [0]}, [("warning", "no_labels", "the best epoch is the last one")]),
        ({"train": [0], "val": [0], "test": []}, [("warning", "no_labels", "no model is promoted")]),
        (
            {"train": [0], "val": [0, 1], "test": [0, 1]},
            [("warning", "class_absent", '"class 1" has no label in train')],
        ),
        (
            {"train": [0, 1], "val": [0, 1], "test": [0]},
            [("warning", "class_absent", '"class 1" has no label in test')],
        ),
        (
            {"train": [0], "val": [0, 1], "test": [0]},
            [("warning", "class_absent", "in train"), ("warning", "class_absent", "in test")],
        ),
    ],
)
def test_what_is_absent_is_told(arguments: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    findings = presence_of(**arguments)
    assert [(finding.severity, finding.code) for finding in findings] == [entry[:2] for entry in expected]
    for finding, (_, _, words) in zip(findings, expected, strict=True):
        assert words in finding.sentence
        assert finding.file_name is None


def test_labels_are_counted_by_split_and_left_out_by_reason() -> None:
    labels = [
        annotation(0, bbox=[1, 1, 5, 5]),
        annotation(1, bbox=[1, 1, 5, 5]),
        annotation(2, bbox=[9, 9, 0, 5]),
        annotation(3, iscrowd=1),
    ]
    value = dataset(document([image("a.png", annotations=labels), image("b.png")]))
    splits = {"train": np.array([True, False]), "val": np.zeros(2, bool), "test": np.array([False, True])}
    counts = count_labels(value, outcomes(value), splits, np.array([False, True]))
    assert {split: kept.total() for split, kept in counts.kept.items()} == {"train": 1, "val": 0, "test": 0}
    assert counts.left_out == {"repeated": 1, "no area": 1, "crowd": 1, "image left out": 1}


def test_a_classification_image_counts_by_its_class() -> None:
    label = {"class_id": 0}
    images = [image("a.png", annotations=[label]), image("b.png", annotations=[]), image("c.png", annotations=[label])]
    value = dataset(document(images, task_type="classification"), "classification")
    splits = {"train": np.array([True, True, False]), "val": np.zeros(3, bool), "test": np.array([False, False, True])}
    counts = count_labels(value, outcomes(value), splits, np.zeros(3, bool))
    assert counts.kept["train"] == {0: 1}
    assert [finding.code for finding in absences(value, counts)] == ["no_labels"]


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=8), st.integers(1, 12))
def test_boxes_looked_at_in_parts_have_the_same_outcomes(kinds: list[list[int]], at_once: int) -> None:
    """A box of a few is without area, outside, of a crowd or twice there; an image's boxes stay in one part."""
    shapes = [[1, 1, 9, 9], [1, 1, 9, 9], [2, 2, 5, 5], [3, 3, 0, 4], [500, 500, 9, 9], [4, 4, 6, 6]]
    images = [
        image(
            f"{number}.png", number, annotations=[annotation(bbox=shapes[kind], iscrowd=int(kind == 5)) for kind in own]
        )
        for number, own in enumerate(kinds)
    ]
    read = dataset(document(images))
    whole = outcomes(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "_BOXES_AT_ONCE", at_once)
        parts = outcomes(read)
    assert parts.reasons.tolist() == whole.reasons.tolist()
    assert parts.repeats == whole.repeats
