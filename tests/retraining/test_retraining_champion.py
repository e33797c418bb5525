"""New images and drift between two datasets: figures that follow from their annotations alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

from hypothesis import given
from hypothesis import strategies as st

from visionloop.components.snapshot.retraining.champion import labelled
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.drift import class_counts, shares, total_variation
from visionloop.data.annotations.tables import Annotations, images_table, objects_table

CLASSES = ("cat", "dog", "fox")

#: The class ids of each image's annotations, by file name.
IMAGES = st.dictionaries(st.sampled_from([f"{number}.png" for number in range(8)]), st.lists(st.integers(0, 2)))


def dataset(images: Mapping[str, list[int]], classes: tuple[str, ...] = CLASSES) -> Annotations:
    objects = [(row, position, index) for row, ids in enumerate(images.values()) for position, index in enumerate(ids)]
    image, positions, class_ids = zip(*objects, strict=True) if objects else ((), (), ())
    return Annotations(
        format="dice",
        task="detection",
        file="annotations_detection.json",
        classes=tuple(Class(id=index, name=name) for index, name in enumerate(classes)),
        images=images_table(file_name=list(images), key=list(images), position=list(range(len(images)))),
        objects=objects_table(image=image, position=positions, class_id=class_ids),
    )


def test_frequencies_are_shares_of_all_annotations() -> None:
    assert shares(class_counts(dataset({"a.png": [0, 0, 1], "b.png": [1], "c.png": []}))) == {"cat": 0.5, "dog": 0.5}
    assert shares(class_counts(dataset({"a.png": []}))) == {}


def test_an_image_is_labelled_by_its_annotations() -> None:
    assert labelled(dataset({"a.png": [0], "b.png": [], "c.png": [1, 1]})) == {"a.png", "c.png"}


def test_the_distance_of_known_distributions() -> None:
    assert total_variation({"cat": 0.5, "dog": 0.5}, {"cat": 0.25, "dog": 0.75}) == 0.25
    assert total_variation({"cat": 1.0}, {"dog": 1.0}) == 1.0
    assert total_variation({"cat": 0.5, "dog": 0.5}, {"cat": 0.5, "fox": 0.5}) == 0.5
    assert total_variation({}, {}) == 0.0
    assert total_variation({}, {"cat": 1.0}) == total_variation({"cat": 1.0}, {}) == 1.0


def test_a_renamed_class_is_another_class() -> None:
    before, after = dataset({"a.png": [0, 1]}), dataset({"a.png": [0, 1]}, ("cat", "wolf", "fox"))
    assert total_variation(shares(class_counts(before)), shares(class_counts(after))) == 0.5


@given(IMAGES, IMAGES)
def test_the_distance_is_one_between_distributions(before: dict[str, list[int]], after: dict[str, list[int]]) -> None:
    entry, other = shares(class_counts(dataset(before))), shares(class_counts(dataset(after)))
    assert isclose(sum(entry.values()), 1 if any(before.values()) else 0)
    assert 0 <= total_variation(entry, other) <= 1 + 1e-12
    assert total_variation(entry, other) == total_variation(
        other, entry
    )  # to the last digit, or a limit would be met now and then
    assert total_variation(entry, entry) == 0
    if entry and other and not set(entry) & set(other):
        assert isclose(total_variation(entry, other), 1)


@given(IMAGES, IMAGES, IMAGES)
def test_a_detour_is_never_shorter(
    first: dict[str, list[int]], second: dict[str, list[int]], third: dict[str, list[int]]
) -> None:
    entry, two, three = (shares(class_counts(dataset(images))) for images in (first, second, third))
    assert total_variation(entry, three) <= total_variation(entry, two) + total_variation(two, three) + 1e-12
