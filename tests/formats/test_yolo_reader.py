"""YOLO read into the canonical annotations: data.yaml, places of images, label files, and what is wrong with them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionloop.core.errors import DatasetNotFound, InvalidDataset, VisionloopError
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.formats.yolo.description import parse
from visionloop.training.trainers.ultralytics.environment import library

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"
KEYS = {name: f"images/{layouts.SPLITS[name]}/{name}" for name in layouts.SIZES}


def line(name: str, class_id: int, box: list[float]) -> str:
    width, height = layouts.SIZES[name]
    x, y, w, h = box
    return f"{class_id} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}\n"


def labels() -> dict[str, str]:
    return {
        key.replace("images", "labels").replace(".png", ".txt"): "".join(line(name, *of) for of in layouts.BOXES[name])
        for name, key in KEYS.items()
        if layouts.BOXES[name]
    }


def yolo(folder: Path, description: str = YAML, **files: Any) -> Path:
    layouts.pictures(folder, KEYS)
    return layouts.write(folder, {"data.yaml": description, **labels(), **files})


def refused(folder: Path, **asked: Any) -> str:
    with pytest.raises(VisionloopError) as error:
        layouts.read(folder, "yolo", **asked)
    assert error.value.exit_code in (65, 78)
    assert "\n" not in error.value.sentence
    return error.value.sentence


def splits(folder: Path) -> dict[str, str | None]:
    images = layouts.read(folder, "yolo").images
    return dict(zip(images["key"].to_pylist(), images["split"].to_pylist(), strict=True))


def test_files_that_look_like_descriptions_or_labels_are_told(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "old.yaml": YAML,
        "labels/train/a.json": "{}",
        "labels/train.cache": "",
        "images/train/a.xml": "",
        "notes.txt": "",
    }
    assert layouts.read(yolo(tmp_path, **files), "yolo").notices == (
        "1 YAML file beside data.yaml is passed over (old.yaml).",
        "1 file below labels is no label and passed over (labels/train/a.json).",
    )


EXPECTED = {key: layouts.SPLITS[name] for name, key in KEYS.items()}


def test_the_same_boxes_in_dice_and_yolo_give_equal_tables(tmp_path: Path) -> None:
    dice = layouts.read(layouts.dice(tmp_path / "dice"), "dice")
    result = layouts.read(yolo(tmp_path / "yolo"), "yolo")
    expected, read = layouts.rows(dice), layouts.rows(result)
    names = {name: key.removeprefix("images/") for name, key in KEYS.items()}
    assert read[0] == [
        row | {"file_name": names[row["file_name"]], "key": f"images/{names[row['file_name']]}"}
        for row in sorted(expected[0], key=lambda row: names[row["file_name"]])
    ]
    order = [row["file_name"] for row in expected[0]]
    by_name = [{**row, "image": names[order[row["image"]]]} for row in expected[1]]
    found_names = [row["file_name"] for row in read[0]]
    assert sorted(map(str, by_name)) == sorted(str({**row, "image": found_names[row["image"]]}) for row in read[1])
    assert [entry.name for entry in result.classes] == [entry.name for entry in dice.classes]
    assert (result.task, result.findings, result.notices) == ("detection", (), ())


@pytest.mark.parametrize(
    ("description", "files"),
    [
        (YAML, {}),
        ("train: ../images/train\nval: ../images/val\nnames: [cat, dog]\n", {}),
        ("path: images\ntrain: train\nval: val\nnames: [cat, dog]\n", {}),
        ("path: gone\ntrain: images/train\nvalidation: images/val\nnames: [cat, dog]\n", {}),
        ("train: [images/train/a.png, images/train/sub]\nval: images/val\nnames: [cat, dog]\n", {}),
        ("train: images/tr*\nval: 'images/**/[bc].png'\nnames: [cat, dog]\ntest:\n", {"images/train/sub/x.txt": ""}),
        (
            "train: train.txt\nval: lists/val.txt\nnames: [cat, dog]\n",
            {"train.txt": "./images/train/a.png\n\nimages/train/sub/b.png\n", "lists/val.txt": "../images/val/c.png"},
        ),
    ],
)
def test_places_are_read_as_ultralytics_reads_them(tmp_path: Path, description: str, files: dict[str, str]) -> None:
    folder = tmp_path / "yolo"
    if "[bc]" in description:
        description = description.replace("images/**/[bc].png", "images/**/[c-d].png")
    assert splits(yolo(folder, description, **files)) == EXPECTED


def test_an_absolute_path_inside_the_dataset_is_one(tmp_path: Path) -> None:
    assert splits(yolo(tmp_path, f"path: {tmp_path}\n" + YAML.partition("\n")[2])) == EXPECTED


def test_roboflows_folders_are_read(tmp_path: Path) -> None:
    names = {"a.png": "train/images/a.png", "sub/b.png": "train/images/b.png", "c.png": "valid/images/c.png"}
    layouts.pictures(tmp_path, names)
    description = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\nroboflow: {a: b}\n"
    layouts.write(tmp_path, {"data.yaml": description, "valid/labels/c.txt": "1 0.5 0.5 0.5 0.5"})
    result = layouts.read(tmp_path, "yolo")
    assert result.images["split"].to_pylist() == ["train", "train", "val"]
    assert result.objects["x"].to_pylist() == [1600]


def test_a_folder_without_data_yaml_has_classes_txt(tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (folder / "data.yaml").unlink()
    assert "no YAML file with names and train and no classes.txt" in refused(folder)
    layouts.write(folder, {"classes.txt": "cat\ndog\n\n"})
    result = layouts.read(folder, "yolo")
    assert [entry.name for entry in result.classes] == ["cat", "dog"]
    assert splits(folder) == EXPECTED


def test_an_image_of_val_and_test_is_given_to_both_and_told(tmp_path: Path) -> None:
    result = layouts.read(yolo(tmp_path, YAML + "test: images/val\n"), "yolo")
    assert result.shared == ("val/c.png",)
    assert "val and test both name 1 images" in result.notices[0]
    assert len(result.images) == 3
    assert "is named by train and by val" in refused(yolo(tmp_path, YAML.replace("images/val", "images/train")))


def test_polygons_are_segmentation(tmp_path: Path) -> None:
    label = {"labels/val/c.txt": "0 0.25 0.25 0.5 0.25 0.5 0.75\n"}
    result = layouts.read(yolo(tmp_path, **label), "yolo")
    (row,) = (row for row in result.objects.to_pylist() if row["polygons"])
    assert result.task == "segmentation"
    assert row["polygons"] == [[1600, 1200, 3200, 1200, 3200, 3600]]
    assert [row[name] for name in ("x", "y", "width", "height")] == [1600, 1200, 1600, 2400]
    hint = "data.yaml: 2 of 3 objects are boxes without an outline, an error each in segmentation; outline them, or choose --task detection."
    assert hint in result.notices
    boxes = layouts.read(tmp_path, "yolo", "detection")
    assert (boxes.task, boxes.notices) == ("detection", ())
    assert "choose --task segmentation" in refused(tmp_path, task="pose")


@pytest.mark.parametrize(
    ("values", "label", "keypoints"),
    [(3, "0.25 0.5 2 0.5 0.5 7", [1600, 2400, 2, 3200, 2400, -1]), (2, "0.25 0.5 -1 -1", [1600, 2400, 2, 0, 0, 0])],
)
def test_keypoints_are_pose(tmp_path: Path, values: int, label: str, keypoints: list[int]) -> None:
    description = YAML + f"kpt_shape: [2, {values}]\nflip_idx: [1, 0]\nkpt_names:\n  0: [l, r]\n"
    files = dict.fromkeys(labels(), "") | {"labels/val/c.txt": f"1 0.5 0.5 0.5 0.5 {label}"}
    result = layouts.read(yolo(tmp_path, description, **files), "yolo")
    assert result.task == "pose"
    assert result.objects["keypoints"].to_pylist() == [keypoints]
    assert [entry.keypoints for entry in result.classes] == [("l", "r"), ("0", "1")]
    assert {entry.flip_pairs for entry in result.classes} == {((0, 1),)}


def test_images_without_labels_and_labels_without_images(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "labels/val/gone.txt": "0 0.5 0.5 1 1",
        "images/other/x.png": b"",
        "images/train/._a.png": b"",
    }
    result = layouts.read(yolo(tmp_path, **files), "yolo")
    assert [finding.field for finding in result.findings] == ["labels/val/gone.txt"]
    assert result.notices == (
        "1 hidden file is passed over.",
        "1 images are in no split of data.yaml and left out (images/other/x.png).",
    )
    assert "train/sub/b.png" in result.images["file_name"].to_pylist()


def test_a_label_whose_extension_has_some_capitals_is_read(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "yolo")
    expected = layouts.rows(layouts.read(yolo(tmp_path / "small"), "yolo"))
    (folder / "labels/train/a.txt").rename(folder / "labels/train/a.tXt")
    assert layouts.rows(layouts.read(folder, "yolo")) == expected


def test_a_label_whose_extension_is_in_capitals_is_read(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "yolo", **{"labels/val/gone.TXT": "0 0.5 0.5 1 1"})
    expected = layouts.rows(layouts.read(yolo(tmp_path / "small"), "yolo"))
    (folder / "labels/train/a.txt").rename(folder / "labels/train/a.TXT")
    (folder / "labels/train/classes.TXT").write_text("cat\ndog\n")
    found = layouts.read(folder, "yolo")
    assert layouts.rows(found) == expected
    assert "labels/train/a.TXT" in found.images["file"].to_pylist()
    assert [finding.field for finding in found.findings] == ["labels/val/gone.TXT"]


def test_a_picture_that_is_not_read_has_no_size(tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (folder / KEYS["c.png"]).write_bytes(b"no picture")
    result = layouts.read(folder, "yolo")
    (row,) = (row for row in result.images.to_pylist() if row["key"] == KEYS["c.png"])
    assert (row["width"], row["height"]) == (None, None)
    assert result.objects.filter(
        np.array(result.objects["image"]) == result.images["key"].to_pylist().index(KEYS["c.png"])
    )["x"].to_pylist() == [None]


def test_each_picture_is_read_once(tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    asked: list[str] = []

    def sizes(keys: Any) -> Any:
        asked.extend(keys.to_pylist())
        return np.full(len(keys), 10, np.int32), np.full(len(keys), 10, np.int32)

    formats.reader("yolo")(formats.Source(open_prefix(str(folder), "dataset"), folder, pictures=sizes))
    assert sorted(asked) == sorted(KEYS.values())


def test_download_is_never_read(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    folder = yolo(tmp_path / "yolo", YAML + f"download: |\n  open({str(marker)!r}, 'w')\n")
    layouts.read(folder, "yolo")
    assert not marker.exists()


@pytest.mark.parametrize(
    "link", ["images/train/linked", "images/train/secret.png", "labels/train/sub/b.txt", "train.txt"]
)
def test_a_link_that_leads_outside_is_refused(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    layouts.write(outside, {"b.txt": "0 0.5 0.5 1 1\n", "train.txt": "images/train/a.png\n"})
    Image.new("RGB", (8, 8)).save(outside / "secret.png")
    description = YAML.replace("images/train", "train.txt") if link == "train.txt" else YAML
    folder = yolo(tmp_path / "yolo", description)
    (folder / link).parent.mkdir(parents=True, exist_ok=True)
    (folder / link).symlink_to(outside if link.endswith("linked") else outside / Path(link).name)
    assert "leads outside the dataset through a link" in refused(folder)


def test_a_link_inside_the_dataset_is_followed(tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (folder / "images/train/again.png").symlink_to(folder / KEYS["a.png"])
    assert splits(folder) == EXPECTED | {"images/train/again.png": "train"}


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (YAML.replace("images/train", "../../etc"), 'train: "../../etc" leads outside the dataset'),
        (YAML.replace("images/train", "../etc"), 'train: "../etc" leads outside the dataset'),
        (YAML.replace("images/train", "images/../../x"), "leads outside the dataset"),
        (YAML.replace("path: .", "path: ../other"), 'path: "../other" leads outside the dataset'),
        (YAML.replace("images/train", "/etc"), 'train: "/etc" is an absolute path outside the dataset'),
        (YAML.replace("path: .", "path: /content/data"), "is an absolute path outside the dataset"),
        (YAML.replace("images/train", "https://host/a.zip"), "is a URL or a drive"),
        (YAML.replace("images/train", "'C:\\data'"), "holds a backslash"),
        (YAML.replace("images/train", "images/none"), 'train: nothing lies at "images/none"'),
        (YAML.replace("images/train", "images/n*"), "no image lies at"),
        (YAML.replace("images/train", "outside.txt"), 'outside.txt: line 2: "../../a.png" leads outside'),
        (YAML.replace("images/train", "absolute.txt"), 'absolute.txt: line 1: "/etc/a.png" is an absolute path'),
        (YAML.replace("images/train", "empty.txt"), "empty.txt: the list is empty"),
        (YAML.replace("images/train", "{a: b}"), "is not a path"),
        (YAML.replace("path: .", "path: [a]"), "path is not a text"),
        ("names: [cat]\n", "train and val are missing"),
        ("train: images/train\nval: images/val\nnames:\n", "names is missing"),
        ("train: images/train\nval: images/val\nnames: []\n", "names is empty"),
        ("train: images/train\nval: images/val\nnames: cat\n", "neither a list nor a mapping"),
        ("train: images/train\nval: images/val\nnames: [cat, [dog]]\n", "names[1]"),
        ("train: images/train\nval: images/val\nnames: [cat, cat]\n", 'names[1]: "cat" is already names[0]'),
        ("train: images/train\nval: images/val\nnames: {a: cat}\n", 'names.a: "a" is not a whole number'),
        ("train: images/train\nval: images/val\nnames: {0: cat, 0: dog}\n", '"0" is written twice'),
        ("train: images/train\nval: images/val\nnames: {0: cat, 0.0: dog}\n", "one number has two names"),
        (YAML + "nc: 3\n", "nc says 3, but names has 2"),
        (YAML + "kpt_shape: [17]\n", "kpt_shape: "),
        (YAML + "kpt_shape: [2, 3]\nflip_idx: [0]\n", "flip_idx: "),
        (YAML + "kpt_shape: [2, 3]\n", "has not the 11 numbers"),
        (YAML + "a: &a [x, x]\nb: &b [*a, *a]\n", "line 8: an alias (*a) stands there"),
        (YAML + "a: " + "[" * 500 + "]" * 500, "nested deeper than 64 levels"),
        (YAML + "a: [1\n", "the file is not YAML (line"),
        ("- train\n- names: 1\n", "holds no keys"),
        (b"train: \xff\nnames: [a]\n", "not UTF-8 text"),
        (YAML + "validation: images/val\n", "val and validation are both written"),
    ],
)
def test_a_wrong_data_yaml_is_one_sentence(tmp_path: Path, description: Any, words: str) -> None:
    lists = {"outside.txt": "images/train/a.png\n../../a.png\n", "absolute.txt": "/etc/a.png", "empty.txt": "\n"}
    assert words in refused(yolo(tmp_path, description, **lists))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("0 0.5 0.5 0.5\n", 'labels/val/c.txt: line 1: "0 0.5 0.5 0.5" is neither a class and a box'),
        ("0 0.5 0.5 0.5 0.5\n\n0 .5 .5 .5 .5 .9\n", "line 3:"),
        ("0 0.5 0.5 0.5 nan\n", '"nan" is not a number'),
        ("0 0.5 0.5 0.5 inf\n", '"inf" is not a number'),
        ("0 0.5 0.5 0.5 1_0\n", '"1_0" is not a number'),
        ("cat 0.5 0.5 0.5 0.5\n", '"cat" is not a number'),
        ("0.5 0.5 0.5 0.5 0.5\n", "does not begin with the number of a class"),
        ("-1 0.5 0.5 0.5 0.5\n", "does not begin with the number of a class"),
        ("99999999999 0.5 0.5 0.5 0.5\n", "does not begin with the number of a class"),
        (b"\xff\xfe0\x00", "is not a number"),
    ],
)
def test_a_wrong_label_is_one_sentence(tmp_path: Path, label: Any, words: str) -> None:
    sentence = refused(yolo(tmp_path, **{"labels/val/c.txt": label}))
    assert words in sentence
    assert "labels/val/c.txt" in sentence


def test_a_class_may_be_written_with_a_point_and_one_that_is_none_is_kept(tmp_path: Path) -> None:
    result = layouts.read(yolo(tmp_path, **{"labels/val/c.txt": "1.0 .5 .5 1 1\n\n7 .5 .5 1 1"}), "yolo")
    rows = [row for row in result.objects.to_pylist() if row["width"] == 6400]
    assert [(row["class_id"], row["position"]) for row in rows] == [(1, 1), (7, 3)]


def test_two_keys_of_one_file_name_are_refused(tmp_path: Path) -> None:
    folder = yolo(tmp_path, "train: [images, a.png]\nnames: [cat, dog]\n")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    Image.new("RGB", (8, 8)).save(folder / "images" / "a.png")
    assert 'both have the file name "a.png"' in refused(folder)


def test_ultralytics_reads_the_same_boxes(tmp_path: Path) -> None:
    """Ultralytics' own reader of a label file agrees with this one, but for its rounding to 32 bits."""
    pytest.importorskip("torch")
    library()  # the one way in: whoever imports it first in a process decides its settings
    verify = importlib.import_module("ultralytics.data.utils").verify_image_label
    folder = yolo(tmp_path, **{"labels/val/c.txt": "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.1 0.1\n"})
    result = layouts.read(folder, "yolo")
    for row, (name, key) in enumerate(
        zip(*(result.images[part].to_pylist() for part in ("file_name", "key")), strict=True)
    ):
        label = str(folder / key.replace("images/", "labels/").replace(".png", ".txt"))
        _, lines, shape, *_ = verify((str(folder / key), label, "", False, 2, 0, 0, False))
        mine = [entry for entry in result.objects.to_pylist() if entry["image"] == row]
        assert [entry["class_id"] for entry in mine] == lines[:, 0].astype(int).tolist(), name
        height, width = shape
        for entry, (_, x, y, w, h) in zip(mine, lines.tolist(), strict=True):
            corners = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            assert [entry[side] / 100 for side in ("x", "y", "width", "height")] == pytest.approx(corners, abs=0.006)


@given(st.text(alphabet=st.sampled_from("abc{}[]:,-&*!|>'\"\n ./0~"), max_size=40))
def test_any_text_is_a_description_or_refused_in_one_sentence(text: str) -> None:
    sentence = ""
    try:
        parse((f"train: {text}\nnames: [a]\n").encode(), "data.yaml")
    except InvalidDataset as error:
        sentence = error.sentence
    assert "\n" not in sentence


paths = st.lists(st.sampled_from(["..", ".", "images", "train", "val", "*", "**", "", "etc", "a.png"]), max_size=5)


@given(st.lists(paths, min_size=1, max_size=2), paths)
def test_no_path_leads_outside(tmp_path_factory: Any, entries: list[list[str]], root: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any") / "dataset"
    Image.new("RGB", (8, 8)).save(folder.parent / "a.png")
    trains = ", ".join(f"'{'/'.join(parts)}'" for parts in entries)
    yolo(folder, f"path: '{'/'.join(root)}'\ntrain: [{trains}]\nnames: [cat, dog]\n")
    keys: list[str] = []
    try:
        keys = layouts.read(folder, "yolo").images["key"].to_pylist()
    except (InvalidDataset, DatasetNotFound) as error:
        assert "\n" not in error.sentence  # noqa: PT017
    assert set(keys) <= set(KEYS.values())
