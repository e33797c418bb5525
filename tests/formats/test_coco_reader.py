"""COCO read into the canonical annotations: its files, its images, its ids, and what is wrong with them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset, VisionloopError
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.annotations.keypoints import mirrored
from visionloop.data.formats import document as pieces
from visionloop.data.formats.splits import stated_split

FILE = "annotations/instances_train2017.json"
ONE = {name: name for name in layouts.SIZES}


def document(**fields: Any) -> dict[str, Any]:
    return layouts.coco_document(ONE) | fields


def of(tmp_path: Path, value: object, file: str = FILE) -> Path:
    layouts.pictures(tmp_path)
    return layouts.write(tmp_path, {file: value})


def refused(folder: Path, **asked: Any) -> str:
    with pytest.raises(VisionloopError) as error:
        layouts.read(folder, "coco", **asked)
    assert error.value.exit_code in (65, 78)
    assert "\n" not in error.value.sentence
    return error.value.sentence


def test_the_same_dataset_in_dice_and_coco_gives_equal_tables(tmp_path: Path) -> None:
    polygons = [[1.25, 2.5, 9.0, 2.5, 9.0, 20.01], [3, 3, 4, 3, 4, 4]]
    fields = {"segmentation": polygons, "attributes": {"b": 1.0, "a": "é"}, "keypoints": [1.5, 2.5, 2, 0, 0, 0]}
    dice = layouts.read(layouts.dice(tmp_path / "dice", **fields), "dice")
    coco = layouts.read(layouts.coco(tmp_path / "coco", **fields), "coco")
    assert layouts.rows(coco) == layouts.rows(dice)
    assert coco.classes == dice.classes
    assert (coco.task, coco.file) == (
        "detection",
        "annotations/instances_train2017.json, annotations/instances_val2017.json",
    )
    assert coco.images["file"].to_pylist() == [
        f"annotations/instances_{split}2017.json" for split in ("train", "val", "train")
    ]
    assert coco.findings == ()


def test_it_is_recognised_and_read_where_it_lies(tmp_path: Path) -> None:
    folder = layouts.coco(tmp_path)
    keys = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    listing = formats.Listing(keys, lambda key: ((folder / key).read_bytes()[:4096], b""))
    assert [name for name, _ in formats.fitting(listing)] == ["coco"]


@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("annotations/instances_train2017.json", "train2017/{}"),
        ("annotations/instances_train2017.json", "train/{}"),
        ("annotations/instances_train2017.json", "images/train2017/{}"),
        ("annotations/train.json", "images/{}"),
        ("labels_train.json", "train/images/{}"),
        ("labels.json", "data/{}"),
        ("result.json", "{}"),
        ("export/train/_annotations.coco.json", "export/train/{}"),
    ],
)
def test_images_lie_in_any_of_the_usual_folders(tmp_path: Path, file: str, where: str) -> None:
    layouts.pictures(tmp_path, {name: where.format(name) for name in ONE})
    result = layouts.read(layouts.write(tmp_path, {file: document()}), "coco")
    assert sorted(result.images["key"].to_pylist()) == sorted(where.format(name) for name in ONE)
    assert sorted(result.images["file_name"].to_pylist()) == sorted(
        where.format(name).removeprefix("images/") for name in ONE
    )
    assert set(result.images["split"].to_pylist()) == {"train" if "train" in file else None}


def test_a_name_that_is_not_there_is_kept_for_validate(tmp_path: Path) -> None:
    value = document()
    value["images"].append({"id": 99, "file_name": "gone.png", "width": 5, "height": 5})
    assert "images/gone.png" in layouts.read(of(tmp_path, value), "coco").images["key"].to_pylist()


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("Validation.json", "val"),
        ("annotationsTest.json", "test"),
        ("train/val.json", "val"),
        ("training.json", None),
        ("trainval2012.json", None),
        ("train_val.json", None),
        ("contest/labels.json", None),
    ],
)
def test_a_split_is_a_word_of_its_own(path: str, split: str | None) -> None:
    result = stated_split(path)
    assert (result[0] if result else None) == split


def test_classes_of_several_files_are_one_by_name(tmp_path: Path) -> None:
    folder = layouts.coco(tmp_path)
    path = folder / "annotations/instances_val2017.json"
    value = json.loads(path.read_text())
    value["categories"] = [{"id": 5, "name": "dog"}]
    for label in value["annotations"]:
        label["category_id"] = 5
    path.write_text(json.dumps(value))
    result = layouts.read(folder, "coco")
    assert [(entry.id, entry.name) for entry in result.classes] == [(0, "cat"), (1, "dog")]
    assert sorted(result.objects["class_id"].to_pylist()) == [0, 1, 1]
    value["categories"] = [{"id": 0, "name": "dog"}]
    path.write_text(json.dumps(value))
    assert '0 of "dog" is already the id of "cat" in annotations/instances_train2017.json' in refused(folder)
    value["categories"] = [{"id": 5, "name": "dog"}]
    value["annotations"][0]["category_id"] = 1
    path.write_text(json.dumps(value))
    assert "1 is not a category of this file" in refused(folder)


def test_two_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    value = document(categories=[*layouts.CLASSES, {"id": 9, "name": "cat"}])
    value["annotations"][0]["category_id"] = 9
    result = layouts.read(of(tmp_path, value), "coco")
    assert len(result.classes) == 2
    assert 9 not in result.objects["class_id"].to_pylist()
    assert 'a category before it is "cat" too' in result.notices[0]


def test_pose_reads_the_files_with_keypoints_and_other_tasks_the_rest(tmp_path: Path) -> None:
    folder = layouts.coco(tmp_path)
    names = ["nose", "left_eye", "right_eye"]
    value = layouts.coco_document({"a.png": "a.png"}, keypoints=[1, 2, 2, 3, 4, 7, 0, 0, 0])
    value["categories"] = [
        {"id": number, "name": name, "keypoints": names, "skeleton": [[1, 2]]}
        for number, name in enumerate(("cat", "dog"))
    ]
    layouts.write(folder, {"annotations/person_keypoints_train2017.json": value})
    pose = layouts.read(folder, "coco", "pose")
    assert pose.file == "annotations/person_keypoints_train2017.json"
    assert pose.classes[0].flip_pairs == ((1, 2),)
    assert pose.objects["keypoints"].to_pylist()[0] == [100, 200, 2, 300, 400, -1, 0, 0, 0]
    boxes = layouts.read(folder, "coco")
    assert len(boxes.images) == 3
    assert any("person_keypoints_train2017.json: passed over" in notice for notice in boxes.notices)
    (folder / "annotations/person_keypoints_train2017.json").unlink()
    assert "no annotation of" in refused(folder, task="pose")


def test_where_a_file_serves_several_tasks_detection_is_taken_and_told(tmp_path: Path) -> None:
    folder = of(tmp_path, layouts.coco_document(ONE, segmentation=[[1, 1, 5, 1, 5, 5]]))
    result = layouts.read(folder, "coco")
    assert result.task == "detection"
    assert "--task segmentation" in result.notices[-1]
    assert layouts.read(folder, "coco", "segmentation").task == "segmentation"


def test_segmentation_without_an_outline_and_other_tasks_are_refused(tmp_path: Path) -> None:
    folder = of(tmp_path, document())
    assert "no annotation has a segmentation" in refused(folder, task="segmentation")
    assert "choose one of these" in refused(folder, task="classification")


def test_boxes_among_outlines_get_one_hint(tmp_path: Path) -> None:
    value = document()
    value["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    value["annotations"][1] |= {"segmentation": [], "iscrowd": 1}
    notices = layouts.read(of(tmp_path, value), "coco", "segmentation").notices
    assert [notice for notice in notices if ": 1 of 3 objects is a box without an outline" in notice] == [notices[-1]]
    assert "choose --task detection" in notices[-1]


def test_masks_become_polygons_and_those_of_crowds_stay(tmp_path: Path) -> None:
    value = document()
    first, second, third = value["annotations"]
    for label in (first, second, third):
        width, height = layouts.SIZES["a.png" if label["image_id"] == 7 else "c.png"]
        label["segmentation"] = {
            "size": [height, width],
            "counts": [height * 2 + 1, 2, height * width - height * 2 - 3],
        }
    second["iscrowd"] = 1
    third["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    result = layouts.read(of(tmp_path, value), "coco", "segmentation")
    by_position = {row["position"]: row for row in result.objects.to_pylist()}
    assert by_position[0]["polygons"] == [[200, 100, 300, 100, 300, 300, 200, 300]]
    assert by_position[0]["mask"] is None
    assert by_position[1]["polygons"] is None
    assert json.loads(by_position[1]["mask"]) == second["segmentation"]
    assert by_position[2]["polygons"] == [[100, 100, 500, 100, 500, 500]]
    assert "1 run-length masks became polygons" in result.notices[0]


def test_a_wrong_mask_is_a_finding_of_its_image(tmp_path: Path) -> None:
    value = document()
    value["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": [1, 2]}
    value["annotations"][1]["segmentation"] = {"size": [2, 2], "counts": "04"}
    value["annotations"][2]["segmentation"] = {"size": [30, 40], "counts": [1200]}
    findings = layouts.read(of(tmp_path, value), "coco", "segmentation").findings
    assert {(finding.code, finding.file_name) for finding in findings} == {("mask", "a.png"), ("mask", "c.png")}
    text = " ".join(finding.sentence for finding in findings)
    for words in ("3 pixels, not the 64 × 48", "2 × 2, not the image's 40 × 30", "it holds no pixel"):
        assert words in text


def test_pieces_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = document()
    value["images"][2]["id"] = value["annotations"][0]["image_id"] = "nine"
    folder = of(tmp_path, value)
    expected = layouts.read(folder, "coco")
    monkeypatch.setattr(pieces, "BYTES_AT_ONCE", 1)
    result = layouts.read(folder, "coco")
    assert result.images.equals(expected.images)
    assert result.objects.equals(expected.objects)
    assert len(result.objects) == 3


def test_a_text_is_an_id_of_its_own(tmp_path: Path) -> None:
    value = document()
    value["images"][0]["id"] = "007"
    value["images"][1]["id"] = 2**70
    for label in value["annotations"]:
        label["image_id"] = 7
    (finding,) = layouts.read(of(tmp_path, value), "coco").findings
    assert 'image_id "7" is the id of no image (2 more annotations have such an id)' in finding.sentence


def test_a_whole_number_may_be_written_with_a_point(tmp_path: Path) -> None:
    value = document()
    expected = layouts.read(of(tmp_path / "plain", value), "coco")
    value["images"][0] |= {"width": 40.0, "id": 7.0}
    value["annotations"][0]["category_id"] = 1.0
    value["annotations"][1] |= {"image_id": 7.0, "iscrowd": False}
    value["categories"] = [*layouts.CLASSES[:1], {"id": 1.0, "name": "dog"}]
    assert layouts.rows(layouts.read(of(tmp_path / "points", value), "coco")) == layouts.rows(expected)


def test_sizes_that_are_not_stated_are_read_from_the_pictures(tmp_path: Path) -> None:
    value = document()
    del value["images"][0]["width"]
    value["images"][1] |= {"width": 0, "height": 0}
    value["images"].append({"id": 1, "file_name": "gone.png"})
    result = layouts.read(of(tmp_path, value), "coco")
    sizes = dict(zip(result.images["file_name"].to_pylist(), result.images["width"].to_pylist(), strict=True))
    assert sizes == {"a.png": 40, "sub/b.png": 20, "c.png": 64, "gone.png": None}
    assert "3 images state no width and height" in result.notices[0]


def test_an_annotation_of_no_image_is_a_finding(tmp_path: Path) -> None:
    value = document()
    value["annotations"][1]["image_id"] = 4242
    result = layouts.read(of(tmp_path, value), "coco")
    (finding,) = result.findings
    assert (finding.severity, finding.field) == ("error", "annotations[1].image_id")
    assert "4242 is the id of no image" in finding.sentence
    assert len(result.objects) == 2


def test_files_without_categories_are_passed_over_and_told(tmp_path: Path) -> None:
    folder = of(tmp_path, document())
    captions = {"images": document()["images"], "annotations": [{"id": 1, "image_id": 7, "caption": "a cat"}]}
    layouts.write(
        folder, {"annotations/captions_train2017.json": captions, "annotations/.x/instances.json": document()}
    )
    result = layouts.read(folder, "coco")
    assert len(result.images) == 3
    assert result.notices == (
        "1 hidden JSON files are passed over (annotations/.x/instances.json).",
        "annotations/captions_train2017.json: passed over, it has no categories.",
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        (bytes(300), "does not begin as its name says"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer in place of the file; run git lfs pull"),
        (json.dumps(document()).encode()[:60], "ends before it is complete"),
        (json.dumps(document()).encode("utf-16")[:60], "ends before it is complete"),
        (b'{"info": {"year": 2017}', "ends before it is complete"),
        (b'{"info": {"a": "}"}, "licenses": [{}', "ends before it is complete"),
    ],
)
def test_a_file_that_is_not_whole_is_not_taken_for_another_format(tmp_path: Path, data: bytes, words: str) -> None:
    folder = layouts.coco(tmp_path)
    (folder / "annotations/instances_val2017.json").write_bytes(data)
    sentence = refused(folder)
    assert sentence.startswith("annotations/instances_val2017.json: ")
    assert words in sentence


@pytest.mark.parametrize("name", ["images", "annotations", "categories"])
@pytest.mark.parametrize("behind", [True, False])
def test_a_key_that_stands_twice_at_the_top_is_refused(tmp_path: Path, name: str, behind: bool) -> None:
    path = layouts.coco(tmp_path) / "annotations/instances_val2017.json"
    content = json.loads(path.read_text()) | {"info": {"images": 1, "annotations": "two", "categories": {}}}
    text = json.dumps(content)
    path.write_text(text)
    assert len(layouts.read(tmp_path, "coco").images) == 3
    more = f'"{name}": {json.dumps(content[name])}'
    path.write_text(f"{text[:-1]}, {more}}}" if behind else f"{{{more}, {text[1:]}")
    assert refused(tmp_path) == (
        f"annotations/instances_val2017.json: the key {name} stands twice at the top; correct the file, or export it again."
    )


def test_a_long_description_before_the_lists_hides_no_file(tmp_path: Path) -> None:
    path = layouts.coco(tmp_path) / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"info": {"description": "x" * 2**17}} | content))
    assert len(layouts.read(tmp_path, "coco").images) == 3
    # Of a single one nothing needs to be seen.
    (path.parent / "instances_train2017.json").unlink()
    last = {"annotations": content.pop("annotations") * 2000}
    path.write_text(json.dumps({"x": "x" * 2**17} | content | last))
    assert len(layouts.read(tmp_path, "coco").images) == 1


def test_files_of_something_else_are_passed_over_and_told(tmp_path: Path) -> None:
    folder = layouts.write(layouts.coco(tmp_path), {"about.json": {"licence": "CC0"}, "list.json": [1, 2]})
    (folder / "metrics.json").write_text('{"loss": NaN}\n{"loss": 1}')
    assert layouts.read(folder, "coco").notices == (
        "3 JSON files are not of COCO and passed over (about.json, list.json, metrics.json).",
    )


@pytest.mark.parametrize("text", [b'"a note"', b"3\n", b"-1.5e3", b"null", b"true", b"\xef\xbb\xbf7"])
def test_json_that_is_neither_list_nor_object_is_passed_over(tmp_path: Path, text: bytes) -> None:
    folder = layouts.coco(tmp_path)
    (folder / "version.json").write_bytes(text)
    assert layouts.read(folder, "coco").notices == ("1 JSON file is not of COCO and passed over (version.json).",)


def test_a_group_is_a_field_of_the_images(tmp_path: Path) -> None:
    value = document()
    for image in value["images"]:
        image |= {"site": image["id"], "metadata": {"b": 1, "a": 2, "labeled_by": "someone"}}
    folder = of(tmp_path, value)
    images = layouts.read(folder, "coco", group="site").images
    assert sorted(images["group"].to_pylist()) == ["7", "8", "9"]
    assert set(images["metadata"].to_pylist()) == {'{"a":2,"b":1}'}
    assert "group=colour is a field of no image" in refused(folder, group="colour")


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    value = copy.deepcopy(document())
    change(value)
    return value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda v: v["images"][1].update(id=7),
            'images[1].id: 7 of "sub/b.png" is already the id of images[0], "a.png"',
        ),
        (lambda v: v["images"][1].update(file_name="a.png"), "a.png: the image is named twice, by images[0]"),
        (lambda v: v["images"][1].update(file_name="/etc/passwd"), 'images[1].file_name: "/etc/passwd" is an absolute'),
        (lambda v: v["images"][1].update(file_name="../a.png"), "holds a relative folder"),
        (lambda v: v["images"][1].update(file_name="http://host/a.png"), "is a URL, which is not followed"),
        (lambda v: v["images"][1].update(file_name="C:\\a.png"), "holds a backslash"),
        (lambda v: v["images"][1].update(file_name=""), "is empty"),
        (lambda v: v["images"][1].update(file_name=5), "images[1].file_name: expected"),
        (lambda v: v["images"][1].pop("file_name"), "images[1].file_name is missing"),
        (lambda v: v["images"][1].pop("id"), "images[1].id is missing"),
        (lambda v: v["images"][1].update(width=-4), "images[1].width: expected a whole number of pixels"),
        (lambda v: v["images"][1].update(width=10**30), "images[1].width: expected a whole number of pixels"),
        (lambda v: v["images"].append("x"), "images[3]: expected object, got str"),
        (lambda v: v.update(images={}), "images: expected array, got object"),
        (lambda v: v.update(images=[], annotations=[]), "images is empty"),
        (lambda v: v["annotations"][2].update(bbox=[1, 2, 3]), "annotations[2].bbox: expected 4 numbers"),
        (lambda v: v["annotations"][2].update(bbox=[1, 2, 3, None]), "annotations[2].bbox: expected 4 numbers"),
        (lambda v: v["annotations"][2].update(bbox="1 2 3 4"), "annotations[2].bbox: expected 4 numbers"),
        (lambda v: v["annotations"][2].update(bbox=[1, 2, 3, float("nan")]), "nan is not a finite number"),
        (lambda v: v["annotations"][2].update(category_id="cat"), "annotations[2].category_id: expected the whole"),
        (lambda v: v["annotations"][2].update(category_id=10**12), "annotations[2].category_id: expected the whole"),
        (lambda v: v["annotations"][2].update(iscrowd=2), "annotations[2].iscrowd: expected 0 or 1"),
        (lambda v: v["annotations"][2].pop("image_id"), "annotations[2].image_id is missing"),
        (
            lambda v: v["annotations"][2].update(segmentation=[1, 2, 3]),
            "annotations[2].segmentation: expected a list of",
        ),
        (
            lambda v: v["annotations"][2].update(segmentation={"counts": [1]}),
            "annotations[2].segmentation.size is missing",
        ),
        (lambda v: v["annotations"][2].update(keypoints=["a"]), "annotations[2].keypoints: expected a flat list"),
        (lambda v: v["annotations"][2].update(attributes=[1]), "annotations[2].attributes: expected an object"),
        (lambda v: v.update(categories=[]), "categories is empty"),
        (lambda v: v["categories"].append({"id": 0, "name": "bird"}), '0 of "bird" is already the id of "cat"'),
        (lambda v: v["categories"].append({"id": 4, "name": "\u0007"}), "categories[2].name"),
        (lambda v: v["categories"].append({"id": -4, "name": "bird"}), "categories[2].id"),
        (lambda v: v["categories"].append({"id": 4}), "categories[2].name is missing"),
        (lambda v: v.update(categories={"0": "cat"}), "categories: expected array"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    value = document()
    value["categories"] = list(value["categories"])
    change(value)
    sentence = refused(of(tmp_path, value))
    assert words in sentence
    assert "instances_train2017.json" in sentence


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps(document())[:-40].encode(), "the file is not JSON (line 1"),
        (json.dumps(document()).encode().replace(b"sub", b"s\xffb"), "not UTF-8 text (images[1], byte"),
        (json.dumps(document()).encode().replace(b'"cat"', b'"c\xff"'), "not UTF-8 text (categories, byte"),
        (b'{"images": [], "annotations": [], "categories": ' + b"[" * 2_000, "nested too deeply"),
    ],
)
def test_bytes_that_are_no_json_are_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refused(of(tmp_path, data))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert len(layouts.read(of(tmp_path, b"\xef\xbb\xbf" + json.dumps(document()).encode()), "coco").images) == 3


def test_a_folder_without_coco_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"no JSON file with images, annotations and categories .* only a\.json;"):
        layouts.read(layouts.write(tmp_path, {"a.json": {}}), "coco")


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye", "LeftEar", "RightEar"], ((1, 2), (3, 4))),
        (["L-hip", "R-hip", "hip"], ((0, 1),)),
        (["leftover", "rightmost"], None),
        (["0", "1"], None),
    ],
)
def test_a_mirror_exchanges_left_and_right(names: list[str], pairs: object) -> None:
    assert mirrored(names) == pairs


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just([]), st.just({})
)


@given(st.data())
def test_any_value_in_a_field_is_read_or_refused_in_one_sentence(tmp_path_factory: Any, data: st.DataObject) -> None:
    value = document()
    name = data.draw(st.sampled_from(["images", "annotations", "categories"]))
    entry = data.draw(st.sampled_from(value[name]))
    entry = dict(entry)
    value[name] = [entry, *value[name][1:]]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(values)
    folder = of(tmp_path_factory.mktemp("any"), value)
    task = data.draw(st.sampled_from([None, "segmentation"]))
    source = formats.Source(open_prefix(str(folder), "dataset"), folder, task=task)
    sentence, keys = "", []
    try:
        keys = formats.reader("coco")(source).images["key"].to_pylist()
    except (InvalidDataset, InvalidConfig) as error:
        sentence = error.sentence
    assert "\n" not in sentence
    assert all(not key.startswith(("/", "../")) for key in keys)
