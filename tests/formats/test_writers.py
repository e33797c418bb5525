"""What is written in a format and read again is the same dataset; what a format can't say is counted in a sentence a kind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visionloop.core.storage import open_prefix
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.masks import united
from visionloop.data.annotations.tables import Annotations, images_table, objects_table
from visionloop.data.formats.exchange import Report, check_empty, write_dataset
from visionloop.data.formats.yolo.lines import digits_for

CLASSES = (Class(id=3, name="cat"), Class(id=7, name="dog/wolf"))

#: Names with spaces, of other scripts, hidden, in folders that trainers treat apart, with one stem.
NAMES = ("a.png", "a.jpg", "b c 1.png", "sub/ü 猫.png", ".hidden.png", "images/x.png", "labels/y%20.png", "sub/a.png")

#: Names that a list, a file system or an address could take for something else.
HOSTILE = (
    "x+y&z=1#2.png", "100%.png", "CON.png", "e\u0301.png", "\u00e9.png", "line\u2028break.png", "\"quote'.png", "a: b.png",
    "A.png", "#.png", "~x.png", "-x.png", "*?[1].png", "x" * 240 + ".png", "train/val/x.png", "../x.png"[3:], "🐈.jpeg",
)  # fmt: skip


def written(folder: Path, read: Annotations, name: str) -> tuple[Report, Path]:
    """The annotations in a format, with pictures of their sizes."""
    source, target = folder / "source", folder / name
    for row in read.images.to_pylist():
        path = source / row["key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (row["width"] or 4, row["height"] or 4)
        Image.new("1", size).save(path, "PNG")
    prefix = check_empty(str(target), source.as_uri())
    (folder / "work").mkdir(exist_ok=True)
    return write_dataset(read, open_prefix(str(source), "dataset"), prefix, name, folder / "work"), target


def dataset(
    task: str, images: Mapping[str, tuple[int, int]], objects: list[dict[str, Any]], **fields: Any
) -> Annotations:
    """Annotations from the sizes of images by name, and objects with the number of their image."""
    names = list(images)
    columns = {name for label in objects for name in label}
    values = {name: [label.get(name) for label in objects] for name in {"image", *columns}}
    if "iscrowd" in values:
        values["iscrowd"] = [bool(value) for value in values["iscrowd"]]
    return Annotations(
        format="dice",
        task=task,
        file="annotations.json",
        classes=fields.pop("classes", CLASSES),
        images=images_table(
            file_name=names,
            key=[f"images/{name}" for name in names],
            width=[size[0] for size in images.values()],
            height=[size[1] for size in images.values()],
            split=list(fields.pop("splits", itertools.islice(itertools.cycle(["train", "val", "test"]), len(names)))),
            position=range(len(names)),
            metadata=fields.pop("metadata", None),
        ),
        objects=objects_table(**{"position": range(len(objects)), "class_id": [3] * len(objects), **values}),
        below="images",
        **fields,
    )


def box(image: int, x: int, y: int, width: int, height: int, **more: Any) -> dict[str, Any]:
    return {"image": image, "class_id": 3, "x": x, "y": y, "width": width, "height": height} | more


def geometry(read: Annotations, *names: str) -> list[tuple[Any, ...]]:
    """Of each object its class's name, its image's size and columns, sorted: what stays whatever images are called."""
    classes = {entry.id: entry.name for entry in read.classes}
    images = read.images.to_pylist()
    return sorted(
        (
            (classes[row["class_id"]], images[row["image"]]["width"], *(row[name] for name in names))
            for row in read.objects.to_pylist()
        ),
        key=str,
    )


BOX = ("x", "y", "width", "height")
coordinates = st.integers(0, 9_900)
boxes = st.tuples(st.integers(0, 7), coordinates, coordinates, st.integers(1, 9_900), st.integers(1, 9_900)).map(
    lambda of: box(of[0], of[1], of[2], min(of[3], 10_000 - of[1]), min(of[4], 10_000 - of[2]))
)


@pytest.mark.parametrize("name", ["dice", "coco", "yolo", "voc"])
@settings(max_examples=5)
@given(labels=st.lists(boxes, max_size=12))
def test_detection_goes_round(
    tmp_path_factory: pytest.TempPathFactory, name: str, labels: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    labels = sorted(labels, key=lambda label: label["image"])
    for label, class_id in zip(labels, itertools.cycle([3, 7]), strict=False):
        label["class_id"] = class_id
    read = dataset("detection", {name: (100 + row, 100) for row, name in enumerate(NAMES)}, labels)
    report, target = written(folder, read, name)
    if name == "voc" and not labels:
        return  # it has no class then
    again = layouts.read(target, name)
    assert geometry(again, *BOX) == geometry(read, *BOX)
    assert report.images == len(NAMES)
    sizes = {row["width"]: row["split"] for row in again.images.to_pylist()}
    assert sizes == {row["width"]: row["split"] for row in read.images.to_pylist()}
    assert again.findings == ()
    if name in ("dice", "coco"):
        assert annotations_hash(again) == annotations_hash(read.sorted())
        assert report.notices == ()


@pytest.mark.parametrize("name", ["dice", "coco", "yolo", "voc"])
def test_hostile_names_lose_no_image_and_no_object(tmp_path: Path, name: str) -> None:
    images = {image: (100 + row, 100) for row, image in enumerate(HOSTILE)}
    read = dataset("detection", images, [box(row, 100 * row, 0, 100, 50) for row in range(len(HOSTILE))])
    report, target = written(tmp_path, read, name)
    again = layouts.read(target, name)
    assert geometry(again, *BOX) == geometry(read, *BOX)
    assert report.images == len(HOSTILE)
    if name in ("dice", "coco"):
        assert annotations_hash(again) == annotations_hash(read.sorted())
    else:
        assert all("written under another name" in notice for notice in report.notices if "class" not in notice)


def test_hostile_names_of_class_folders(tmp_path: Path) -> None:
    names = ("a/b", "..", "train", "images", "Cat", "cat", "nul", " x", "y.", "é" * 150)
    classes = tuple(Class(id=row, name=name) for row, name in enumerate(names))
    images = {image: (100 + row, 100) for row, image in enumerate(HOSTILE)}
    labels = [{"image": row, "class_id": row % len(names)} for row in range(len(HOSTILE))]
    for split in ("train", None):
        read = dataset("classification", images, labels, classes=classes, splits=[split] * len(HOSTILE))
        report, target = written(tmp_path / str(split), read, "folders")
        again = layouts.read(target, "folders")
        folders = {entry.id: entry.name for entry in again.classes}
        pairs = {
            (row["class_id"], folders[label["class_id"]])
            for row, label in zip(
                labels, sorted(again.objects.to_pylist(), key=lambda row: sizes(again)[row["image"]]), strict=True
            )
        }
        assert len(pairs) == len(names)
        assert report.images == len(HOSTILE)


def sizes(read: Annotations) -> list[int]:
    widths: list[int] = read.images["width"].to_pylist()
    return widths


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_the_same_names_and_boxes_have_the_same_hash(tmp_path: Path, name: str) -> None:
    labels = [box(0, 1, 2, 333, 777), box(1, 12_345, 9_999, 1, 1), box(2, 499_999, 0, 1, 123_457)]
    read = dataset("detection", {"a.png": (640, 480), "s/b.png": (641, 333), "c.png": (5000, 4999)}, labels)
    report, target = written(tmp_path, read, name)
    assert annotations_hash(layouts.read(target, name)) == annotations_hash(read.sorted())
    assert report.notices == ()


@pytest.mark.parametrize("side", [640, 5000, 6700, 40_000, 178_000])
def test_enough_digits_keep_hundredths_of_a_pixel(side: int) -> None:
    digits = digits_for(side)
    corners = np.random.default_rng(0).integers(0, side * 100, (2000, 2))
    low, high = corners.min(axis=1), corners.max(axis=1) + 1
    centre = np.round((low + high) / 2 / (side * 100), digits)
    width = np.round((high - low) / (side * 100), digits)
    assert (np.rint((centre - width / 2) * side * 100) == low).all()
    assert (np.rint(width * side * 100) == high - low).all()
    assert digits >= 6


POLYGON = [[1000, 1000, 5000, 1000, 5000, 5025]]
TWO = [[1000, 1000, 2000, 1000, 2000, 2000, 1000, 2000], [4000, 4000, 6000, 4000, 6000, 6000]]
OVERLAPPING = [[1000, 1000, 4000, 1000, 4000, 4000, 1000, 4000], [2000, 2000, 6000, 2000, 6000, 6000, 2000, 6000]]


def filled(polygons: Any, side: int = 400) -> Any:
    """The union of polygons, each with an odd number of turns, in cells of a quarter of a pixel."""
    y, x = (np.mgrid[:side, :side] + 0.5) * 25
    union = np.zeros((side, side), bool)
    for polygon in polygons:
        inside = np.zeros((side, side), bool)
        ring = np.array(polygon, float).reshape(-1, 2)
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y >= min(y1, y2)) & (y < max(y1, y2))
                inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        union |= inside
    return union


@pytest.mark.parametrize("name", ["dice", "coco", "yolo"])
def test_segmentation_goes_round(tmp_path: Path, name: str) -> None:
    labels = [{"image": 0, "polygons": outline} for outline in (POLYGON, TWO, OVERLAPPING)]
    read = dataset("segmentation", {"a.png": (100, 100)}, labels)
    report, target = written(tmp_path, read, name)
    again = layouts.read(target, name, "segmentation")
    for outline, entry in zip((POLYGON, TWO, OVERLAPPING), again.objects["polygons"].to_pylist(), strict=True):
        before, after = filled(outline), filled(entry)
        assert (before & after).sum() / (before | after).sum() >= 0.999
    if name == "yolo":
        assert set(report.notices) == {
            "1 object has several parts, which one line joins by cuts of no width.",
            "1 object has polygons that overlap: the line is the outline of their union.",
            "No image is of val, and Ultralytics takes no data.yaml without val.",
        }
        assert again.objects["polygons"][0].as_py() == POLYGON
    else:
        assert annotations_hash(again) == annotations_hash(read)


def test_polygons_that_touch_alone_stay_as_they_are() -> None:
    rings = [np.array([[0, 0], [100, 0], [100, 100]]), np.array([[100, 0], [200, 0], [200, 100]])]
    assert united(rings)[1] is False
    assert united([rings[0], rings[0] + [60, 0]])[1] is True
    # Their boxes overlap, they do not.
    assert united([rings[0], np.array([[0, 10], [90, 100], [0, 100]])])[1] is False


POSE = (
    Class(id=0, name="person", keypoints=("nose", "left_eye", "right_eye"), flip_pairs=((1, 2),), skeleton=((1, 2),)),
)


@pytest.mark.parametrize("name", ["dice", "coco", "yolo"])
def test_poses_go_round(tmp_path: Path, name: str) -> None:
    points = [[100, 100, 2, 150, 250, 1, 0, 0, 0], [5000, 100, 2, 9999, 9999, 2, 100, 200, 2]]
    labels = [box(index, 0, 0, 10_000, 10_000, class_id=0, keypoints=entry) for index, entry in enumerate(points)]
    read = dataset("pose", {"a.png": (100, 100), "b.png": (100, 100)}, labels, classes=POSE)
    report, target = written(tmp_path, read, name)
    again = layouts.read(target, name, "pose")
    assert annotations_hash(again) == annotations_hash(read)
    assert report.notices == ()


def test_classification_goes_round(tmp_path: Path) -> None:
    names = ["a.png", "sub/a.png", "sub_a.png", "b c.png"]
    labels = [{"image": row, "class_id": class_id} for row, class_id in enumerate([3, 7, 7, 3])]
    read = dataset("classification", {name: (4 + row, 4) for row, name in enumerate(names)}, labels)
    for name in ("dice", "folders"):
        report, target = written(tmp_path, read, name)
        again = layouts.read(target, name)
        classes = {"cat": "cat", "dog/wolf": "dog/wolf" if name == "dice" else "dog%2Fwolf"}
        assert geometry(again) == [(classes[entry], *rest) for entry, *rest in geometry(read)]
        assert {row["width"]: row["split"] for row in again.images.to_pylist()} == {
            4: "train",
            5: "val",
            6: "test",
            7: "train",
        }
    assert report.notices == (
        '1 class has a name that a folder can not have ("dog/wolf" is "dog%2Fwolf").',
        '2 images are written under another name, as a class has one folder ("sub/a.png" is "sub_a.png").',
    )


CROWD = {"counts": "04", "size": [100, 100]}


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_what_a_format_can_not_say_is_counted(tmp_path: Path, name: str) -> None:
    labels = [
        box(0, 0, 0, 100, 100, attributes='{"colour":"red","difficult":1,"n":[1]}', area=7.0),
        box(0, 0, 0, 100, 100, iscrowd=1),
        box(0, 0, 0, 100, 100, iscrowd=1),
        box(0, 0, 0, 100, 100, class_id=99),
        {"image": 1, "class_id": 3, "polygons": POLYGON},
        box(1, 100, 100, -1, 5),
        box(1, 10_000, 0, 200, 100),
        box(1, 20_000, 0, 200, 100),
    ]
    read = dataset(
        "detection",
        {"a.png": (100, 100), "a.jpg": (101, 100), "c": (100, 100)},
        labels,
        metadata=['{"camera":"1"}', None, None],
        splits=["train", None, "val"],
    )
    report, target = written(tmp_path, read, name)
    output = " ".join(report.notices)
    for words in (
        "2 crowd regions are left out",
        "1 object has the id of no class",
        "1 object has no box",
        "1 object has polygons",
    ):
        assert words in output
    assert "1 object states an area of its own" in output
    assert "1 image has free values" in output
    assert '1 image has no image\'s extension ("c"): left out' in output
    assert "1 image is written under another name" in output
    again = layouts.read(target, name)
    if name == "yolo":
        assert "1 image states no split: train is taken, as YOLO needs one" in output
        assert "1 object has attributes, which YOLO does not hold" in output
        assert "1 box has a negative side" in output
        assert "1 box lies outside" in output
        assert "1 box reaches outside the image: cut off there" in output
        assert geometry(again, *BOX) == [("cat", 100, 0, 0, 100, 100), ("cat", 101, 10_000, 0, 100, 100)]
    else:
        assert "1 attribute is not a text" in output
        assert len(again.objects) == 4
        [attributes] = filter(None, again.objects["attributes"].to_pylist())
        assert json.loads(attributes) == {"colour": "red", "difficult": 1, "n": "[1]"}


def test_dice_and_coco_keep_crowds_attributes_and_free_values(tmp_path: Path) -> None:
    labels = [
        box(0, 0, 0, 100, 100, attributes='{"b":[1,2.5],"é":"x"}'),
        box(0, 1, 2, 3, 4, iscrowd=1, mask=json.dumps(CROWD, separators=(",", ":"))),
        box(0, 1, 2, 3, 4, class_id=99),
    ]
    read = dataset("detection", {"a.png": (100, 100)}, labels, metadata=['{"camera":"1"}'])
    for name in ("dice", "coco"):
        report, target = written(tmp_path, read, name)
        again = layouts.read(target, name)
        assert report.notices == ()
        rows = [row | {"position": 0} for row in again.objects.to_pylist()]
        assert rows == [row | {"position": 0} for row in read.objects.to_pylist()]
        assert again.images["metadata"].to_pylist() == read.images["metadata"].to_pylist()


def test_images_of_val_that_are_test_too(tmp_path: Path) -> None:
    read = dataset("detection", {"a.png": (9, 9), "b.png": (9, 9)}, [box(0, 0, 0, 100, 100)], shared=("b.png",))
    report, target = written(tmp_path, read, "yolo")
    assert report.notices == ()
    assert layouts.read(target, "yolo").shared == ("b.png",)
    report, target = written(tmp_path, replace(read), "coco")
    assert "1 image is of val and of test" in report.notices[0]
