"""Class folders: sorted classes over all splits, and hints where names are nearly equal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PICTURE, class_names, picture, read, refused

from visionloop.data import formats
from visionloop.data.formats.folders.layout import Layout


def names(folder: Path, *keys: str) -> tuple[list[str], tuple[str, ...]]:
    dataset = read("folders", folder, dict.fromkeys(keys, PICTURE))
    return [entry.name for entry in dataset.classes], dataset.notices


def test_a_dataset_with_splits(tmp_path: Path) -> None:
    files = {
        "train/b/1.png": PICTURE,
        "train/a/1.png": picture(8, 9),
        "valid/c/1.png": PICTURE,
        "test/a/2.png": PICTURE,
    }
    dataset = read("folders", tmp_path, files)
    assert dataset.task == "classification"
    assert [(entry.id, entry.name) for entry in dataset.classes] == [(0, "a"), (1, "b"), (2, "c")]
    rows = dict(zip(dataset.images["file_name"].to_pylist(), dataset.images["split"].to_pylist(), strict=True))
    assert rows == {"train/b/1.png": "train", "train/a/1.png": "train", "valid/c/1.png": "val", "test/a/2.png": "test"}
    by_name = dict(zip(dataset.images["file_name"].to_pylist(), class_names(dataset), strict=True))
    assert by_name == {"train/b/1.png": "b", "train/a/1.png": "a", "valid/c/1.png": "c", "test/a/2.png": "a"}
    sides = dict(zip(dataset.images["file_name"].to_pylist(), dataset.images["width"].to_pylist(), strict=True))
    assert sides["train/a/1.png"] == 8


def test_a_class_that_a_split_lacks_moves_no_other(tmp_path: Path) -> None:
    dataset = read("folders", tmp_path, dict.fromkeys(("train/b/1.png", "train/c/1.png", "val/a/1.png"), PICTURE))
    numbers = dict(zip(dataset.images["file_name"].to_pylist(), dataset.objects["class_id"].to_pylist(), strict=True))
    assert numbers == {"train/b/1.png": 1, "train/c/1.png": 2, "val/a/1.png": 0}
    assert 'train lacks 1 class ("a"); numbers stay.' in dataset.notices


def test_folders_without_splits_state_none(tmp_path: Path) -> None:
    dataset = read("folders", tmp_path, {"cat/1.png": PICTURE, "test/1.png": PICTURE})
    assert [entry.name for entry in dataset.classes] == ["cat", "test"]
    assert dataset.images["split"].null_count == 2


def test_classes_are_sorted_as_torchvision_sorts_them(tmp_path: Path) -> None:
    classes, _ = names(tmp_path, "b/1.png", "B/1.png", "10/1.png", "9/1.png", "é/1.png")
    assert classes == ["10", "9", "B", "b", "é"]


def test_names_that_are_nearly_equal_have_a_hint(tmp_path: Path) -> None:
    _, notices = names(tmp_path, "train/Cat/1.png", "val/cat/1.png", "train/\u00e4/1.png", "val/a\u0308/1.png")
    assert '"Cat" and "cat" are two classes: they differ in case; rename one if they are one class.' in notices
    assert sum("they differ in their Unicode form" in notice for notice in notices) == 1


def test_a_doubled_folder_is_of_its_class(tmp_path: Path) -> None:
    classes, notices = names(tmp_path, "cat/cat/1.png", "dog/1.png", "dog/small/2.png")
    assert classes == ["cat", "dog"]
    assert "1 class folder is doubled (cat/cat/): their images are of that class." in notices
    assert "1 image lies deeper in a class folder: each is of the first folder's class." in notices


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    files = ("train/a/1.png", "train/b/1.png", "test/1.png", "README.txt", "train/a/.ipynb_checkpoints/1.png")
    _, notices = names(tmp_path, *files)
    assert '1 image lies in no class folder ("test/1.png"): passed over.' in notices
    assert '1 file is not an image ("README.txt"): passed over.' in notices
    assert "1 hidden file is passed over." in notices


def test_a_picture_that_can_not_be_read_has_no_size(tmp_path: Path) -> None:
    dataset = read("folders", tmp_path, {"a/1.png": b"not a picture", "b/1.png": PICTURE})
    assert dataset.images["width"].to_pylist() == [None, 40]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("a/1.png",), 'at least two class folders with images are needed, and only one, "a", lies there'),
        (("1.png",), "and none lies there"),
        (("a.txt",), "and none lies there"),
        (("a/1\\2.png", "b/1.png"), "holds a backslash"),
        (("a/1\n2.png", "b/1.png"), "holds a control character"),
        ((f"{'x' * 200}/1.png", "  /1.png"), "the class name"),
    ],
)
def test_what_is_not_a_dataset_is_one_sentence(tmp_path: Path, keys: tuple[str, ...], words: str) -> None:
    assert words in refused("folders", tmp_path, dict.fromkeys(keys, PICTURE))


def test_another_task_and_a_group_are_wrong_configurations(tmp_path: Path) -> None:
    files = {"a/1.png": PICTURE, "b/1.png": PICTURE}
    assert "choose --task classification" in refused("folders", tmp_path, files, task="detection", code=78)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["train", "val", "a", "b", ".x", "images"]), max_size=3), max_size=8))
def test_every_image_is_of_one_class_or_outside(folders: list[list[str]]) -> None:
    keys = ["/".join([*parts, f"{index}.png"]) for index, parts in enumerate(folders)]
    layout = Layout.of(keys)
    visible = [key for key in keys if "/.x/" not in f"/{key}"]
    assert sorted([*layout.outside, *(entry.key for entry in layout.entries)]) == sorted(visible)
    for entry in layout.entries:
        assert entry.name in entry.key.split("/")[:-1]


def test_class_folders_are_recognised_where_nothing_else_fits() -> None:
    def evidence(*keys: str) -> str | None:
        return formats.FORMATS["folders"].recognise(formats.Listing(keys, lambda key: (b"", b"")))

    assert evidence("train2017/a/1.png", "val2017/b/1.png") == "a/ and b/"
    assert evidence("a/a/1.png", "b/1.png") == "a/ and b/"
    assert evidence("a/1.png", "b/x/1.png") is None
    assert evidence("a/1.png", "data/1.png") is None
    assert evidence("a/1.png", "b/1.png", "1.png") is None
