"""The sample dataset with other labels: only what is named differs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from visionloop.pipelines import sample
from visionloop.pipelines.sample import Labels
from visionloop.pipelines.sample.scenes import CLASS_NAMES

SEVEN, ONE = CLASS_NAMES.index("seven"), CLASS_NAMES.index("one")
RENAMED = ("naught", *CLASS_NAMES[1:])


def written(name: str | None = None, labels: Labels | None = None) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The pictures by key, and the annotations with their split."""
    objects: dict[str, bytes] = {}
    sample.write(objects.__setitem__, train=30, val=5, test=5, name=name, labels=labels or Labels())
    images = json.loads(objects["annotations_detection.json"])["images"]
    rows = [{**annotation, "split": image["split"]} for image in images for annotation in image["annotations"]]
    return {key: data for key, data in objects.items() if key.startswith("images/")}, rows


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    return written()


def test_a_mistake_is_made_in_train_alone(plain: tuple[dict[str, bytes], list[dict[str, Any]]]) -> None:
    pictures, rows = written("other", Labels(mistaken={SEVEN: ONE}))
    assert pictures == plain[0]
    differing = [
        (new["split"], old["class_name"], new["class_name"])
        for old, new in zip(plain[1], rows, strict=True)
        if old != new
    ]
    assert set(differing) == {("train", "seven", "one")}
    sevens = [row for row in plain[1] if (row["split"], row["class_id"]) == ("train", SEVEN)]
    assert len(differing) == len(sevens)
    assert any(row["class_id"] == SEVEN for row in rows)


def test_a_class_may_have_another_name(plain: tuple[dict[str, bytes], list[dict[str, Any]]]) -> None:
    _, rows = written("other", Labels(names=RENAMED))
    assert {row["class_id"] for row in rows} == {row["class_id"] for row in plain[1]}
    assert {row["class_name"] for row in rows if row["class_id"] == 0} == {"naught"}


def test_boxes_lie_outside_in_as_many_scenes_as_are_asked_for(
    plain: tuple[dict[str, bytes], list[dict[str, Any]]],
) -> None:
    _, rows = written("other", Labels(outside=3))
    outside = [row for row in rows if row["bbox"][0] >= 160]
    assert [row["split"] for row in outside] == ["train"] * 3
    assert len({row["image_id"] for row in outside}) == 3


def test_another_dataset_has_another_name_and_id() -> None:
    objects: dict[str, bytes] = {}
    sample.write(objects.__setitem__, train=1, val=1, test=1)
    others: dict[str, bytes] = {}
    sample.write(others.__setitem__, train=1, val=1, test=1, name="sample-digits-more")
    metadata, other = (json.loads(files["metadata.json"]) for files in (objects, others))
    assert (metadata["dataset_name"], other["dataset_name"]) == ("sample-digits", "sample-digits-more")
    assert metadata["dataset_id"] != other["dataset_id"]
