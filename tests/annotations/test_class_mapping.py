"""``--classes``: what becomes of a dataset's classes, and what is not a mapping."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import small_datasets
from dice_samples import annotation, dataset, document, image
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.checks import check
from visionloop.data.annotations.class_mapping import LARGEST, ClassMapping, map_classes, parse_classes
from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.comparison import _labels
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.drift import class_counts
from visionloop.data.annotations.labels import class_order
from visionloop.data.annotations.presence import KEPT, REASONS, outcomes
from visionloop.data.annotations.tables import Annotations

NAMES = ("car", "van", "truck", "bike", "shadow")


def read(names: tuple[str, ...] = NAMES, task: str = "object_detection", **fields: Any) -> Annotations:
    """An image for each class, with as many objects of it as its number and one."""
    classes = [{"id": 2 * number, "name": name, **fields} for number, name in enumerate(names)]
    images = [
        image(
            f"{number}.png",
            number,
            annotations=[
                annotation(index, 2 * number, bbox=[10 * index + 1, 5, 8, 8], area=None, class_name=name)
                for index in range(number + 1)
            ],
        )
        for number, name in enumerate(names)
    ]
    return dataset(
        document(images, classes=classes, task_type=task), None if task == "object_detection" else task
    ).sorted()


def mapped(mapping: dict[str, Any] | str, whole: Annotations | None = None) -> Annotations:
    text = mapping if isinstance(mapping, str) else json.dumps(mapping)
    result = map_classes(whole or read(), parse_classes(text))
    result.objects.validate(full=True)
    return result


def objects(result: Annotations) -> dict[str, int]:
    """How many objects each class has; those that are ignored under ``-``."""
    names = {entry.id: entry.name for entry in result.classes} | {IGNORED: "-"}
    counts: dict[str, int] = {}
    for number, crowd in zip(
        result.objects["class_id"].to_pylist(), result.objects["iscrowd"].to_pylist(), strict=True
    ):
        assert crowd == (number == IGNORED)
        counts[names[number]] = counts.get(names[number], 0) + 1
    return counts


@pytest.mark.parametrize(
    ("mapping", "order", "counts"),
    [
        ({}, NAMES, {"car": 1, "van": 2, "truck": 3, "bike": 4, "shadow": 5}),
        ({"drop": ["shadow", "van"]}, ("car", "truck", "bike"), {"car": 1, "truck": 3, "bike": 4}),
        ({"keep": ["van"]}, ("van",), {"van": 2}),
        ({"ignore": ["shadow"], "keep": ["van"]}, ("van",), {"van": 2, "-": 5}),
        ({"ignore": ["car", "bike"]}, ("van", "truck", "shadow"), {"-": 5, "van": 2, "truck": 3, "shadow": 5}),
        ({"rename": {"truck": "lorry"}}, ("car", "van", "lorry", "bike", "shadow"), {"lorry": 3}),
        # Several olds to one new, and a new that another class keeps: one class, where the first of them was.
        ({"rename": {"van": "vehicle", "truck": "vehicle"}}, ("car", "vehicle", "bike", "shadow"), {"vehicle": 5}),
        ({"rename": {"bike": "van"}}, ("car", "van", "truck", "shadow"), {"van": 6}),
        ({"rename": {"truck": "car", "van": "car"}, "drop": ["shadow"]}, ("car", "bike"), {"car": 6, "bike": 4}),
        # By the dataset's own names: two classes change places.
        ({"rename": {"car": "van", "van": "car"}, "keep": ["car", "van"]}, ("van", "car"), {"van": 1, "car": 2}),
        # The name of a class that goes is free.
        ({"drop": ["car"], "rename": {"van": "car"}}, ("car", "truck", "bike", "shadow"), {"car": 2}),
        # An earlier field decides.
        (
            {"ignore": ["car"], "drop": ["car", "van"], "keep": ["van", "bike"], "rename": {"van": "x"}},
            ("bike",),
            {"-": 1},
        ),
        ("drop:\n- shadow\nrename:\n  van: 007\n", ("car", "007", "truck", "bike"), {"007": 2}),
        ("rename: {car: no, van: on}", ("no", "on", "truck", "bike", "shadow"), {"no": 1}),
    ],
)
def test_what_becomes_of_classes(mapping: Any, order: tuple[str, ...], counts: dict[str, int]) -> None:
    result = mapped(mapping)
    assert class_order(result) == order
    assert objects(result).items() >= counts.items()
    assert len(result.images) == len(NAMES)
    assert set(objects(result)) - {"-"} <= set(order)


def test_what_is_ignored_and_dropped_is_counted() -> None:
    notices = mapped(
        {"ignore": ["shadow"], "drop": ["bike"], "rename": {"van": "car", "truck": "lorry", "bike": "x"}}
    ).notices
    assert notices == (
        '--classes: ignores "shadow", whose 5 objects act as crowd regions.',
        '--classes: drops "bike" with 4 objects.',
        '--classes: renames "van" to "car", "truck" to "lorry".',
        '--classes: merges into "car" (2 classes).',
        "--classes: 2 classes are left.",
        '--classes: "bike" is in drop, so what rename says of it counts for nothing.',
    )
    assert mapped({"keep": ["car"], "rename": {"van": "x"}}).notices[-1] == (
        '--classes: "van" is not in keep, so its rename counts for nothing.'
    )


def test_what_is_ignored_is_no_label_and_nothing_to_find_fault_with() -> None:
    result = mapped({"ignore": ["shadow"]})
    reasons = outcomes(result).reasons
    assert (reasons == KEPT).sum() == 10
    assert (reasons == REASONS.index("crowd")).sum() == 5
    assert {finding.code for finding in check(result)} == {finding.code for finding in check(mapped({"drop": []}))}


def test_only_the_outcome_counts_for_the_dataset() -> None:
    whole = read()
    assert annotations_hash(mapped({"keep": list(NAMES)})) == annotations_hash(whole)
    swapped = mapped({"rename": {"car": "van", "van": "car"}})
    assert annotations_hash(swapped) == annotations_hash(read(("van", "car", *NAMES[2:])))
    assert annotations_hash(mapped({"ignore": ["car"]})) != annotations_hash(mapped({"drop": ["car"]}))
    assert annotations_hash(mapped({"ignore": ["car"]})) != annotations_hash(whole)


def test_a_label_of_an_image_is_no_region_so_it_goes() -> None:
    result = mapped({"ignore": ["shadow"]}, read(task="classification"))
    assert objects(result) == {"car": 1, "van": 2, "truck": 3, "bike": 4}


def test_classes_with_other_keypoints_stay_apart() -> None:
    whole = read(("a", "b"), "pose", keypoints=["nose"])
    assert class_order(mapped({"rename": {"a": "b"}}, whole)) == ("b",)
    other = dataset(
        document(
            [image("a.png", annotations=[])],
            classes=[{"id": 0, "name": "a", "keypoints": ["nose"]}, {"id": 1, "name": "b", "keypoints": ["tail"]}],
            task_type="pose",
        ),
        "pose",
    )
    with pytest.raises(InvalidDataset, match='"a" and "b" can\'t be one class "b": their keypoints differ'):
        mapped({"rename": {"a": "b"}}, other)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            {"drop": ["Trucks"]},
            'annotations_detection.json: --classes: drop: "Trucks" is not a class of the dataset (did you mean "truck"?); it has "bike", "car"',
        ),
        ({"rename": {"zebra": "x"}}, 'rename: "zebra" is not a class of the dataset; it has'),
        ({"keep": ["car", "x"]}, 'keep: "x" is not a class'),
        ({"ignore": [""]}, 'ignore: "" is not a class'),
        ({"drop": list(NAMES)}, "--classes leaves none of the 5 classes"),
    ],
)
def test_what_does_not_fit_the_dataset_is_refused(mapping: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidDataset, match=re.escape(expected)):
        mapped(mapping)


def test_at_most_ten_classes_are_named() -> None:
    with pytest.raises(InvalidDataset, match=r'"c09" and 2 more\.$'):
        mapped({"drop": ["x"]}, read(tuple(f"c{number:02d}" for number in range(12))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "--classes: Expected `object`, got `array`; the fields are ignore, drop, keep, rename"),
        ("car", "Expected `object`, got `str`"),
        (
            '{"keep": []}',
            "--classes: keep names no class, or none that ignore and drop leave, so that no class is left",
        ),
        ('{"keep": ["a", "b"], "ignore": ["a"], "drop": ["b", "c"]}', "so that no class is left; name those to train"),
        ('{"kept": ["car"]}', "unknown field `kept`; the fields are ignore, drop, keep, rename, as in {"),
        ('{"drop": "car"}', "Expected `array`, got `str` - at `$.drop`"),
        ('{"drop": [1]}', "Expected `str`, got `int` - at `$.drop[0]`"),
        ('{"rename": ["a"]}', "Expected `object`, got `array` - at `$.rename`"),
        ('{"rename": {"a": null}}', "Expected `str`, got `null`"),
        ('{"rename": {"a": " "}}', "is empty or holds a control character"),
        ('{"rename": {"a": "x\\u0007"}}', "holds a control character"),
        ('{"rename": {"a": "\\ud800"}}', "holds a control character"),
        (json.dumps({"rename": {"a": "x" * 1001}}), "has 1,001 characters, more than 1,000"),
        ('{"rename": {"a": "x", "a": "y"}}', '"a" is written twice; give each once'),
        ('{"drop": ["\\udcff"]}', "'\\udcff' holds half a character"),
        ("rename: {a: x, a: y}", 'neither JSON nor YAML (line 1: "a" is written twice)'),
        ("drop: [a", "neither JSON nor YAML (the file is not YAML (line 2, column 1)"),
        ("drop: &a [x]\nkeep: *a", "an alias (*a) stands there"),
        ("[" * 5000, "--classes: neither JSON nor YAML"),
        ('{"drop":' * 5000, "--classes: neither JSON nor YAML"),
        ("x" * (LARGEST + 1), "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        parse_classes(text)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_equal_mappings_are_one_whatever_their_order_and_form() -> None:
    entry = parse_classes('{"drop": ["b", "a", "a"], "rename": {"x": "y", "v": "w"}}')
    other = parse_classes("rename:\n  v: w\n  x: y\ndrop: [a, b]\nignore: []\n")
    assert entry.canonical() == other.canonical() == {"drop": ["a", "b"], "rename": {"v": "w", "x": "y"}}
    assert entry.text() == other.text()
    assert parse_classes(entry.text()).canonical() == entry.canonical()
    assert parse_classes("").canonical() == parse_classes("{}").canonical() == {}


some = st.lists(st.sampled_from(NAMES), max_size=3).map(tuple)
mappings = st.builds(
    ClassMapping,
    ignore=some,
    drop=some,
    keep=st.none() | some,
    rename=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*NAMES, "new"]), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(mappings)
def test_no_object_is_lost_that_is_not_dropped(mapping: ClassMapping) -> None:
    whole = read()
    try:
        result = map_classes(whole, mapping)
    except InvalidDataset:
        assert all(name in mapping.ignore or mapping.drops(name) for name in NAMES)
        return
    expected: dict[str, int] = {}
    for name, number in objects(whole).items():
        new = "-" if name in mapping.ignore else None if mapping.drops(name) else mapping.rename.get(name, name)
        if new is not None:
            expected[new] = expected.get(new, 0) + number
    assert objects(result) == expected
    assert len(set(class_order(result))) == len(result.classes)


def test_an_ignored_region_is_no_class_of_the_other_dataset() -> None:
    whole = read()
    at = whole.objects.schema.get_field_index("iscrowd")
    crowds = [number == 0 for number in range(len(whole.objects))]
    before = replace(whole, objects=whole.objects.set_column(at, whole.objects.schema.field(at), pa.array(crowds)))
    after = map_classes(before, parse_classes('{"ignore": ["car"]}'))
    numbers = {entry.id: index for index, entry in enumerate(before.classes)}
    rows = np.arange(len(NAMES))
    forms = [
        _labels(side, rows, {entry.id: numbers[entry.id] for entry in side.classes}, "detection")
        for side in (before, after)
    ]
    assert (forms[0] != forms[1]).any(axis=1).tolist() == [True, False, False, False, False]
    assert class_counts(after) == {"van": 2, "truck": 3, "bike": 4, "shadow": 5}


def test_a_crowd_of_a_class_that_does_not_exist_is_not_taken_for_an_ignored_one(tmp_path: Path) -> None:
    """Whatever id a file holds, only what a run chose to ignore is passed over without an error."""
    for number in (-1, -(2**31) + 1):
        crowd = {"class_id": number, "bbox": [4, 4, 8, 8], "iscrowd": 1}
        folder = small_datasets.dataset(tmp_path / str(number), "detection", [small_datasets.BOX, crowd])
        with pytest.raises(InvalidDataset, match=rf"class_id {number} is not a class of the file"):
            small_datasets.converted(folder, tmp_path / "work")
