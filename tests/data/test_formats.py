"""What a folder is, told from its keys and the ends of a few files, in place of "no dataset"."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from visionloop.components.snapshot.dataset import format_of, opened
from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.formats.dice.reader import read_file
from visionloop.data.formats.outline import outline
from visionloop.data.formats.recognised import choose

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    "categories": [{"id": 1, "name": "cat"}],
}
TASKS = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}]
VOC = "<annotation><filename>a.jpg</filename></annotation>"
CVAT = "<?xml version='1.0'?>\n<annotations><image id='0' name='a.jpg'/></annotations>"
YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n"
DICE = json.dumps({"format_version": "1.0", "classes": [], "images": []})


def filled(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def sentence(place: Path) -> str:
    with opened(open_prefix(str(place), "dataset"), None) as source, pytest.raises(DatasetNotFound) as refused:
        format_of(source, None)
    assert refused.value.exit_code == 65
    assert str(place) in refused.value.sentence
    return refused.value.sentence


def recognised(folder: Path) -> tuple[str, str | None] | None:
    return choose(formats.Source(open_prefix(str(folder), "dataset"), folder), None, "--dataset-format")


@pytest.mark.parametrize(
    ("files", "name", "evidence"),
    [
        ({"annotations/instances_train2017.json": json.dumps(COCO)}, "coco", "annotations/instances_train2017.json"),
        (
            {
                "annotations/captions.json": '{"images": [], "annotations": []}',
                "annotations/train.json": json.dumps(COCO),
            },
            "coco",
            "annotations/train.json",
        ),
        ({"_annotations.coco.json": json.dumps(COCO)}, "coco", "_annotations.coco.json"),
        ({"annotations_detection.json": json.dumps(COCO)}, "coco", "annotations_detection.json"),
        ({"annotations_detection.json": DICE}, "dice", "annotations_detection.json"),
        ({"annotations.json": DICE}, "dice", "annotations.json"),
        ({"data.yaml": YAML, "images/train/a.jpg": ""}, "yolo", "data.yaml"),
        (
            {"data.yaml": "\ufefftrain: images\nnames: [cat]\n", "images/a.jpg": "", "labels/a.txt": ""},
            "yolo",
            "data.yaml",
        ),
        ({"classes.txt": "cat", "images/a.jpg": "", "labels/a.txt": ""}, "yolo", "classes.txt"),
        ({"cat/1.jpg": "", "dog/2.jpg": ""}, "folders", "cat/ and dog/"),
        ({"train/cat/1.jpg": "", "val/dog/2.jpg": ""}, "folders", "cat/ and dog/"),
        ({"Annotations/a.xml": VOC, "JPEGImages/a.jpg": ""}, "voc", "Annotations/a.xml"),
        ({"annotations.xml": CVAT}, "cvat", "annotations.xml"),
        ({"project-1.json": json.dumps(TASKS)}, "labelstudio", "project-1.json"),
    ],
)
def test_a_format_is_told_from_what_lies_there(tmp_path: Path, files: dict[str, str], name: str, evidence: str):
    assert recognised(filled(tmp_path, files)) == (name, evidence)


def test_two_that_fit_are_refused_with_both_names(tmp_path: Path):
    folder = filled(tmp_path, {"annotations_detection.json": DICE, "export/instances.json": json.dumps(COCO)})
    with pytest.raises(InvalidConfig, match="choose --dataset-format dice or --dataset-format coco"):
        recognised(folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"export.json": DICE}, "export.json is a DICE file under another name; call it annotations_TASK.json"),
        ({"images/a.jpg": "", "b.png": ""}, "images lie there (b.png) without annotations"),
        ({"train/a/1.png": "", "train/b/x/1.png": ""}, "or name class folders with --dataset-format folders"),
        ({"sets/digits/annotations_pose.json": DICE}, "the dataset lies in a folder below; give file://"),
        ({"sets/digits/data.yaml": YAML}, "the dataset lies in a folder below; give file://"),
        ({"readme.txt": "hello"}, "what lies there (readme.txt) is a dataset of no format that is read (dice, coco"),
        ({"images/a.jpg": "", "result.json": ""}, "result.json: the file is empty; export it again"),
        ({"images/a.jpg": "", "export.xml": "<?xml"}, "export.xml: the file ends before it is complete"),
        ({}, "the folder is empty"),
    ],
)
def test_a_folder_that_is_not_a_dataset_is_named(tmp_path: Path, files: dict[str, str], words: str):
    assert words in sentence(filled(tmp_path, files))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("annotations_detection.json", DICE, "it is the dataset's file, not its folder; give file://"),
        ("instances.json", json.dumps(COCO), "it is a file of a COCO dataset, not its folder; give file://"),
        ("digits.zip", "PK", "it is an archive, not a folder; unpack it"),
        ("a.jpg", "", "it is a file, not a folder"),
    ],
)
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str, text: str, words: str):
    assert words in sentence(filled(tmp_path, {name: text}) / name)


def test_the_folder_of_a_datasets_images_leads_to_the_one_above(tmp_path: Path):
    folder = filled(tmp_path, {"annotations_detection.json": DICE, "images/a.jpg": ""})
    assert f"give the folder above, {folder.as_uri()}" in sentence(folder / "images")


def test_a_format_that_is_known_is_taken_as_long_as_it_fits_and_no_other_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def tried(_: object) -> str | None:
        raise AssertionError

    def again(name: str) -> tuple[str, str | None] | None:
        source = formats.Source(open_prefix(str(tmp_path), "dataset"), tmp_path)
        return choose(source, name, "--dataset-format", again=True)

    filled(tmp_path, {"a/1.jpg": "", "b/2.jpg": ""})
    assert again("folders") == again("coco") == recognised(tmp_path)
    filled(tmp_path, {"annotations/train.json": json.dumps(COCO)})
    # Class folders fit only where nothing else does, whatever was taken before.
    assert again("folders") == ("coco", "annotations/train.json")
    others = {name: replace(entry, recognise=tried) for name, entry in formats.FORMATS.items() if name != "coco"}
    monkeypatch.setattr(formats, "FORMATS", {**others, "coco": formats.FORMATS["coco"]})
    assert again("coco") == ("coco", "annotations/train.json")
    with pytest.raises(AssertionError):
        again("yolo")


def test_a_folder_that_does_not_exist_is_told_so(tmp_path: Path):
    assert "there is no such folder" in sentence(tmp_path / "nothing")


def test_an_annotation_file_that_is_a_pipe_is_named_at_once(tmp_path: Path):
    os.mkfifo(filled(tmp_path, {"a.txt": ""}) / "annotations_detection.json")
    assert "annotations_detection.json is not a file but a pipe" in sentence(tmp_path)


@pytest.mark.parametrize(
    "top",
    [
        {},
        {"format_version": "1.0", "classes": [{"id": 0, "name": "cat"}]},
        {"format_version": "1.0", "classes": [{"id": 0, "name": "cat"}], "task_type": "detection", "categories": []},
    ],
)
def test_a_coco_file_under_dices_name_is_refused_as_coco_whatever_was_added(top: dict[str, object]):
    with pytest.raises(InvalidDataset, match="this is the file of a COCO dataset"):
        read_file(json.dumps(COCO | top).encode(), "annotations_detection.json", "detection")


def test_an_empty_list_of_annotations_at_the_top_hides_no_label():
    document = {"format_version": "1.0", "classes": [{"id": 0, "name": "cat"}], "annotations": []}
    document["images"] = [{"file_name": "a.jpg", "width": 8, "height": 8}]
    assert len(read_file(json.dumps(document).encode(), "annotations_detection.json", "detection").images) == 1


def test_a_large_file_is_recognised_by_its_ends(tmp_path: Path):
    """Neither its annotations nor its categories begin in the bytes that are read of its start."""
    many = COCO | {"images": COCO["images"] * 5000, "annotations": COCO["annotations"] * 5000}
    assert recognised(filled(tmp_path, {"labels.json": json.dumps(many, indent=1)})) == ("coco", "labels.json")


def test_at_most_sixteen_files_are_looked_into():
    looked: list[str] = []

    def ends(key: str) -> tuple[bytes, bytes]:
        looked.append(key)
        return b"", b""

    names = [f"{number}.{extension}" for number in range(50) for extension in ("json", "xml", "yaml", "jpg")]
    assert formats.fitting(formats.Listing(names, ends)) == []
    assert len(looked) == len(set(looked)) == 16


def test_an_outline_knows_nested_keys_from_those_at_the_top():
    seen = outline(b'{"a": {"images": [1]}, "b": [{"c": {"d": 1}, "e": "\\"{"}, {"f": 2}], "g": [[{"h": 1}]]}')
    assert seen.keys == {"a", "b", "g"}
    assert seen.first == {"b": {"c", "e"}}


@pytest.mark.parametrize(
    ("start", "goes_on"),
    [(b'[{"a": [{"b": 1}, {', True), (b'[{"a": 1}', False), (b'[{"a": 1}, {"b"', False), (b'{"a": [{"b": 1', False)],
)
def test_an_outline_tells_whether_the_first_element_goes_on(start: bytes, goes_on: bool):
    assert outline(start).open == goes_on
