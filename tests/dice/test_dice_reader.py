"""DICE read by column: the same as read by structs, whatever way a piece takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dice_samples import FILE, annotation, document, documents, encoded, image, numbers
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.annotations.tables import HUNDREDTHS, IMAGES, LIMIT, OBJECTS, Annotations, hundredths, offsets
from visionloop.data.formats import document as pieces
from visionloop.data.formats.dice.reader import read_file


def read(value: dict[str, Any]) -> Annotations:
    return read_file(encoded(value), FILE, None)


def whole(values: Any) -> list[int]:
    return [int(number) for number in hundredths(np.array(values, np.float64))]


@pytest.mark.parametrize("name", ["images", "classes"])
def test_a_key_that_stands_twice_at_the_top_is_refused(name: str) -> None:
    text = encoded(document(statistics={"images": 1}) if name == "images" else document())
    assert read_file(text, FILE, None).file == FILE
    twice = b"\xef\xbb\xbf" + text[:-1] + f', "{name}": '.encode() + json.dumps(document()[name]).encode() + b"}"
    with pytest.raises(InvalidDataset) as error:
        read_file(twice, FILE, None)
    assert error.value.sentence.startswith(f"{FILE}: the key {name} stands twice at the top; ")


def test_other_json_at_the_root_is_told(tmp_path: Path) -> None:
    files = {
        FILE: document(),
        "annotations.json": document(),
        "annotations_detection_2.JSON": {},
        ".x.json": {},
        "metadata.json": {},
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(encoded(content))
    source = formats.Source(open_prefix(str(tmp_path), "dataset"), tmp_path)
    assert formats.reader("dice")(source).notices == (
        f"2 JSON files beside {FILE} are passed over (annotations.json, annotations_detection_2.JSON).",
    )


@given(documents())
def test_columns_hold_what_structs_hold(value: dict[str, Any]) -> None:
    result = read(value)
    assert result.images.schema == IMAGES
    assert result.objects.schema == OBJECTS
    assert [(entry.id, entry.name) for entry in result.classes] == [
        (item["id"], item["name"]) for item in value["classes"]
    ]
    bounds = offsets(result)
    rows = result.objects.to_pylist()
    for index, item in enumerate(value["images"]):
        row = result.images.slice(index, 1).to_pylist()[0]
        assert all(row[name] == item[name] for name in ("file_name", "width", "height", "split"))
        labels = rows[bounds[index] : bounds[index + 1]]
        assert len(labels) == len(item["annotations"])
        for position, (row, label) in enumerate(zip(labels, item["annotations"], strict=True)):
            assert (row["image"], row["position"], row["class_id"]) == (index, position, label["class_id"])
            assert row["iscrowd"] == bool(label.get("iscrowd"))
            box = [row[name] for name in ("x", "y", "width", "height")]
            assert box == (whole(label["bbox"]) if "bbox" in label else [None] * 4)
            outline = label.get("segmentation")
            assert (row["mask"] is not None) == isinstance(outline, dict)
            polygons = [] if isinstance(outline, dict) else [whole(part) for part in outline or ()]
            assert (row["polygons"] or []) == polygons
            assert bool(row["keypoints"]) == bool(label.get("keypoints"))
            assert bool(row["attributes"]) == bool(label.get("attributes"))


@given(st.lists(numbers, min_size=1, max_size=9))
def test_coordinates_are_hundredths_and_never_wrap(values: list[float]) -> None:
    for number, entry in zip(values, whole(values), strict=True):
        if abs(number) * HUNDREDTHS >= LIMIT:
            assert entry == (LIMIT if number > 0 else -LIMIT)
        else:
            assert abs(entry - number * HUNDREDTHS) <= 0.5


def test_half_a_hundredth_goes_to_the_even_one() -> None:
    assert whole([0.125, 0.375, -0.125, 1e300, -1e300, float("nan")]) == [12, 38, -12, LIMIT, -LIMIT, LIMIT]


def many(count: int) -> dict[str, Any]:
    return document([image(f"{number}.png", number + 1) for number in range(count)])


@given(documents(), st.sampled_from([None, 1]), st.sampled_from([1, 200, 600]))
def test_pieces_give_what_the_whole_gives(value: dict[str, Any], indent: int | None, at_once: int) -> None:
    data = json.dumps(value, indent=indent).encode()
    expected = read_file(data, FILE, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BYTES_AT_ONCE", at_once)
        result = read_file(data, FILE, None)
    assert result.images.equals(expected.images)
    assert result.objects.equals(expected.objects)
    assert result.findings == expected.findings


@pytest.mark.parametrize("text", ["}", "{", '"}', "},{", "}]},{", "\\"])
def test_a_brace_in_a_text_ends_no_piece(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = many(9)
    for number in (2, 5):
        value["images"][number]["annotations"][0]["attributes"] = {text: text}
        value["images"][number]["metadata"] = {"a": text}
    value["images"][7]["width"] = 900.0
    expected = read(value)
    assert expected.objects["attributes"].null_count == 7
    monkeypatch.setattr(pieces, "BYTES_AT_ONCE", 600)
    result = read(value)
    assert result.images.equals(expected.images)
    assert result.objects.equals(expected.objects)
    value["images"][7]["width"] = "wide"
    with pytest.raises(
        InvalidDataset, match=r'images\[7\]\.width: expected a whole number of pixels above 0, got "wide"'
    ):
        read(value)


def test_an_error_in_a_later_piece_has_its_place_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BYTES_AT_ONCE", 600)
    value = many(7)
    value["images"][5]["annotations"][0]["bbox"] = [1, 2, 3]
    with pytest.raises(InvalidDataset, match=r"images\[5\]\.annotations\[0\]\.bbox: expected 4 numbers .* got \[1, 2"):
        read(value)


@pytest.mark.parametrize("field", ["image", "class", "label"])
def test_a_whole_number_may_be_written_with_a_point(field: str) -> None:
    value = many(2)
    if field == "image":
        value["images"][1]["width"] = 900.0
    elif field == "class":
        value["classes"][0]["id"] = 0.0
    else:
        value["images"][0]["annotations"][0]["class_id"] = 0.0
    result, expected = read(value), read(many(2))
    assert result.images.equals(expected.images)
    assert result.objects.equals(expected.objects)
    assert result.findings == ()


def test_a_whole_number_with_a_point_leaves_free_values_as_they_are() -> None:
    value = many(2)
    value["images"][0] |= {"width": 900.0, "metadata": {"a": 5.0}}
    value["images"][1] |= {"metadata": {"a": [1, 5.0]}}
    assert read(value).images["metadata"].to_pylist() == ['{"a":5.0}', '{"a":[1,5.0]}']


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"defect"', b'"d\xff"', r"not UTF-8 text \(classes, byte"),
        (b'"0.png"', b'"\xff"', r"not UTF-8 text \(images\[0\], byte"),
        (b'"platform_labeler_v1.0"', b"1e999", r"images\[0\]\.metadata: Number out of range"),
        (
            b'"attributes": {}',
            b'"attributes": {"a": 1e999}',
            r"images\[0\]\.annotations\[0\]\.attributes: Number out of range",
        ),
    ],
)
def test_what_json_can_not_hold_is_one_sentence(old: bytes, new: bytes, words: str) -> None:
    data = encoded(many(1))
    assert old in data
    with pytest.raises(InvalidDataset, match=words):
        read_file(data.replace(old, new), FILE, None)


def test_ids_may_be_texts() -> None:
    value = many(2)
    for number, entry in enumerate(value["images"]):
        entry["id"] = f"image-{number}"
        entry["annotations"][0] |= {"id": "label", "image_id": "image-1"}
    assert [finding.code for finding in read(value).findings] == ["image_id"]


def test_a_mask_does_not_change_what_lies_beside_it() -> None:
    value = many(2)
    value["images"][0]["annotations"].append(annotation(1, segmentation={"size": [900, 900], "counts": "0a"}))
    result = read(value).objects.to_pylist()
    assert [row["mask"] for row in result] == [None, '{"counts":"0a","size":[900,900]}', None]
    assert [row["x"] for row in result] == [35129] * 3


def test_what_the_file_states_twice_is_compared() -> None:
    value = many(2)
    value["images"][0]["annotations"][0] |= {"class_name": "dent", "area": 5}
    value["images"][1]["annotations"][0] |= {"image_id": 9}
    value |= {"statistics": {"total_images": 3, "class_distribution": {"defect": 2}}, "dataset_name": None}
    findings = read(value).findings
    assert [(finding.code, finding.file_name, finding.field) for finding in findings] == [
        ("class_name", "0.png", "images[0].annotations[0].class_name"),
        ("area", "0.png", "images[0].annotations[0].area"),
        ("image_id", "1.png", "images[1].annotations[0].image_id"),
        ("statistics", None, "statistics.total_images"),
        ("missing_metadata", None, "dataset_name"),
    ]


def test_metadata_has_no_people() -> None:
    (only,) = read(document()).images.to_pylist()
    assert "@" not in str(only)
    assert only["metadata"] == '{"source":"platform_labeler_v1.0"}'


def test_attributes_are_canonical() -> None:
    labels = [annotation(attributes={"b": 1.0, "a": "é"}), annotation(attributes=None), annotation(attributes={})]
    result = read(document([image(annotations=labels)])).objects["attributes"].to_pylist()
    assert result == ['{"a":"é","b":1}', None, None]


def test_images_come_in_the_order_of_their_names() -> None:
    value = document([image("b.png", 1), image("a.png", 2, annotations=[]), image("ä.png", 3), image("B.png", 4)])
    result = read(value).sorted()
    assert result.images["file_name"].to_pylist() == ["B.png", "a.png", "b.png", "ä.png"]
    assert result.images["position"].to_pylist() == [3, 1, 0, 2]
    assert result.objects["image"].to_pylist() == [0, 2, 3]
    assert result.sorted().images.equals(result.images)


def test_a_dataset_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"0")
    (tmp_path / FILE).write_bytes(encoded(many(1)))
    source = formats.Source(open_prefix(str(tmp_path), "dataset"), tmp_path / "work", group="source")
    listing = formats.Listing([FILE, "images/0.png"], lambda key: ((tmp_path / key).read_bytes(), b""))
    assert formats.fitting(listing) == [("dice", FILE)]
    result = formats.reader("dice")(source)
    assert result.images["group"].to_pylist() == ["platform_labeler_v1.0"]
    assert result.images["key"].to_pylist() == source.objects(result.below)["key"].to_pylist() == ["images/0.png"]


def test_a_group_that_no_image_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(encoded(document()))
    source = formats.Source(open_prefix(str(tmp_path), "dataset"), tmp_path, group="colour")
    with pytest.raises(InvalidConfig, match="group=colour is a field of no image"):
        formats.reader("dice")(source)


def test_a_format_that_is_not_read_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="choose one of dice"):
        formats.reader("tfrecord")


def test_a_key_that_is_escaped_is_the_same_key() -> None:
    value = document([image(annotations=[annotation(attributes={"n": 1}, mask="none")])])
    escaped = encoded(value).replace(b'"attributes"', b'"\\u0061ttributes"').replace(b'"metadata"', b'"\\u006detadata"')
    result, expected = read_file(escaped, FILE, None), read(value)
    assert result.objects.equals(expected.objects)
    assert result.images.equals(expected.images)
    assert result.objects["attributes"].to_pylist() == ['{"n":1}']
    assert result.objects["mask"].null_count == 1
