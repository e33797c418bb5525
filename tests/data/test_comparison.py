"""How two frozen datasets differ: which images, in what, which classes, and what is not compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from visionloop.data.annotations import comparison
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.comparison import Comparison, Side, compare
from visionloop.data.annotations.content import digests
from visionloop.data.annotations.tables import BOX, Annotations, images_table, objects_table

#: An object: the id of its class, and its box in hundredths of a pixel.
Object = tuple[int, tuple[int, int, int, int]]

CAT: Object = (0, (100, 200, 300, 400))
DOG: Object = (1, (500, 500, 900, 900))

CLASSES = {0: "cat", 1: "dog"}


def dataset(
    labels: Mapping[str, Sequence[Object]],
    classes: Mapping[int, str] = CLASSES,
    task: str = "detection",
    etags: Mapping[str, str | None] | None = None,
    splits: Mapping[str, str] | None = None,
    also: Mapping[str, str] | None = None,
    first_form: bool = False,
    on_files: bool = True,
) -> Side:
    """A frozen dataset of images of 100 × 100 with these objects."""
    names = sorted(labels)
    count = len(names)
    etag = [(etags or {}).get(name, f"etag of {name}") for name in names]
    images = images_table(file_name=names, key=names, position=range(count), width=[100] * count, height=[100] * count)
    rows = [(row, *entry) for row, name in enumerate(names) for entry in labels[name]]
    objects = objects_table(
        image=[row for row, _, _ in rows],
        position=range(len(rows)),
        class_id=[class_id for _, class_id, _ in rows],
        **{side: [box[index] for _, _, box in rows] for index, side in enumerate(BOX)},
    )
    kinds = tuple(Class(id=number, name=name) for number, name in classes.items())
    read = Annotations("dice", task, "a.json", kinds, images, objects)
    columns: dict[str, Any] = {
        "file_name": pa.array(names, pa.string()),
        "size": pa.array([None if value is None else 7 for value in etag], pa.int64()),
        "etag": pa.array(etag, pa.string()),
        "split": pa.array([(splits or {}).get(name, "train") for name in names], pa.string()),
        "also": pa.array([(also or {}).get(name) for name in names], pa.string()),
        "width": images["width"],
        "height": images["height"],
    }
    if not first_form:
        columns |= {"stated_split": pa.nulls(count, pa.string()), "content": digests(read, pa.table(columns))}
    return Side(pa.table(columns), task, on_files, lambda: read)


def changes(result: Comparison) -> dict[str, list[str]]:
    """The names by what changed, without what did not."""
    kinds = {"added": result.added, "removed": result.removed, **result.changed}
    return {kind: names.to_pylist() for kind, names in kinds.items() if len(names)}


def test_the_same_dataset_does_not_differ() -> None:
    side = dataset({"a": [CAT], "b": []})
    result = compare(side, side)
    assert (result.differs, changes(result), list(result.notices)) == (False, {}, [])
    assert [(entry.name, entry.before, entry.after) for entry in result.classes] == [("cat", 1, 1), ("dog", 0, 0)]


def test_images_are_told_by_what_changed() -> None:
    before = dataset(
        {"same": [CAT], "moved": [CAT], "bytes": [DOG], "gone": [], "split": [DOG], "missing": [CAT], "both": []}
    )
    after = dataset(
        {"same": [CAT], "moved": [(0, (101, 200, 300, 400))], "bytes": [DOG], "new": [DOG], "split": [DOG], "missing": [CAT],
         "both": []},
        etags={"bytes": "other", "missing": None},
        splits={"split": "val", "both": "val"},
        also={"both": "test"},
    )  # fmt: skip
    result = compare(before, after)
    assert changes(result) == {
        "added": ["new"],
        "removed": ["gone"],
        "labels": ["moved"],
        "bytes": ["bytes", "missing"],
        "split": ["both", "split"],
    }
    assert result.moves == {("train", "val and test"): 1, ("train", "val"): 1}
    assert (result.before.splits, result.after.splits) == (
        {"train": 7, "val": 0, "test": 0},
        {"train": 5, "val": 2, "test": 1},
    )
    assert result.differs


def test_an_image_of_another_size_and_stated_split() -> None:
    before, after = dataset({"a": [], "b": []}), dataset({"a": [], "b": []})
    images = after.images.set_column(5, "width", pa.array([100, 120], pa.int32()))
    images = images.set_column(7, "stated_split", pa.array(["train", None], pa.string()))
    assert changes(compare(before, replace(after, images=images))) == {"picture_size": ["b"], "stated_split": ["a"]}


def test_objects_in_another_order_are_the_same_labels() -> None:
    assert changes(compare(dataset({"a": [CAT, DOG]}), dataset({"a": [DOG, CAT]}))) == {}


def test_classes_make_pairs_by_their_names() -> None:
    """Other ids, and one class more before the others: the labels stay, though every image's digest is another one."""
    before = dataset({"a": [CAT], "b": [DOG], "c": []})
    after = dataset({"a": [(4, CAT[1])], "b": [(9, DOG[1])], "c": [(2, CAT[1])]}, {2: "ant", 4: "cat", 9: "dog"})
    result = compare(before, after)
    assert changes(result) == {"labels": ["c"]}
    assert [(entry.name, entry.before, entry.after, entry.change) for entry in result.classes] == [
        ("ant", None, 1, "added"),
        ("cat", 1, 1, None),
        ("dog", 1, 1, None),
    ]


def test_a_renamed_class_is_no_change_of_labels_or_shares() -> None:
    before = dataset({f"{number}": [CAT] for number in range(300)})
    after = dataset({f"{number}": [CAT] for number in range(300)}, {0: "kitten", 1: "dog"})
    result = compare(before, after)
    assert changes(result) == {}
    assert [(entry.name, entry.was, entry.change) for entry in result.classes] == [
        ("kitten", "cat", "renamed"),
        ("dog", None, None),
    ]
    assert result.differs
    assert not any(measure.drifted for measure in result.drift)


def test_classes_that_changed_places_are_other_labels() -> None:
    """The digests are equal, as they hold ranks: what was a cat is a dog now."""
    result = compare(dataset({"a": [CAT], "b": []}), dataset({"a": [CAT], "b": []}, {0: "dog", 1: "cat"}))
    assert changes(result) == {"labels": ["a"]}
    assert list(result.notices) == ["The order of the classes differs: a training gives them other numbers."]


def test_a_class_that_is_gone_and_one_that_does_not_exist() -> None:
    before = dataset({"a": [CAT], "b": [(7, CAT[1])]})
    after = dataset({"a": [], "b": [(7, CAT[1])]}, {1: "dog"})
    result = compare(before, after)
    assert changes(result) == {"labels": ["a"]}
    assert [(entry.name, entry.change, entry.before) for entry in result.classes] == [
        ("dog", None, 0),
        ("cat", "removed", 1),
    ]
    # Id 7 as a class is another label than id 7 without one.
    named = dataset({"a": [CAT], "b": [(7, CAT[1])]}, {**CLASSES, 7: "owl"})
    assert changes(compare(before, named)) == {"labels": ["b"]}


@pytest.mark.parametrize("first_form", [(True, False), (False, True), (True, True)])
def test_snapshots_of_the_first_form(first_form: tuple[bool, bool]) -> None:
    before = dataset({"a": [CAT], "b": [DOG]}, first_form=first_form[0])
    after = dataset({"a": [CAT, DOG], "b": [DOG]}, first_form=first_form[1])
    result = compare(before, after)
    assert changes(result) == {"labels": ["a"]}
    assert "first form" in result.notices[0]


def test_tasks_that_differ_are_compared_in_what_both_have() -> None:
    boxes = dataset({"a": [CAT], "b": [DOG]})
    outlined = dataset({"a": [CAT], "b": [CAT]}, task="segmentation")
    result = compare(boxes, outlined)
    assert changes(result) == {"labels": ["b"]}
    assert "classes and boxes alone are compared" in result.notices[0]
    labels = dataset({"a": [(0, DOG[1])], "b": [DOG]}, task="classification")
    assert changes(compare(boxes, labels)) == {}


def test_etags_of_a_folder_and_of_a_store_are_not_compared() -> None:
    before = dataset({"a": [CAT]}, etags={"a": "sha"})
    after = dataset({"a": [CAT]}, etags={"a": "md5"}, on_files=False)
    result = compare(before, after)
    assert changes(result) == {}
    assert "by their number alone" in result.notices[0]
    silent = dataset({"a": [CAT], "b": []}, etags={"a": ""})
    result = compare(dataset({"a": [CAT], "b": []}), silent)
    assert changes(result) == {}
    assert list(result.notices) == [
        "Images of which a store declares no ETag: 1; their bytes are compared by their number alone."
    ]


def test_more_images_than_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_AT_ONCE", 3)
    labels: dict[str, list[Object]] = {f"{number:02d}": [CAT] * (number % 3) for number in range(20)}
    other = {**labels, "07": [DOG], "19": []}
    result = compare(dataset(labels, first_form=True), dataset(other))
    assert changes(result) == {"labels": ["07", "19"]}


def test_datasets_without_images_or_classes() -> None:
    nothing, some = dataset({}, {}), dataset({"a": [CAT]})
    assert changes(compare(nothing, nothing)) == {}
    assert changes(compare(nothing, some)) == {"added": ["a"]}
    assert changes(compare(some, nothing)) == {"removed": ["a"]}


def test_drift_is_measured() -> None:
    before = dataset({f"{number}": [CAT] for number in range(200)})
    after = dataset({f"{number}": [DOG] for number in range(200)})
    results = {measure.measure: measure for measure in compare(before, after).drift}
    assert results["classes"].drifted
    assert results["box sizes"].drifted
