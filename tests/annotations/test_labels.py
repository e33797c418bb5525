import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from dice_samples import annotation, dataset, document, documents, file_names, image, labels_of, pictures
from dice_samples import label as label_of
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.components.train.loaded import _keypoints
from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.labels import (
    class_folders,
    class_index,
    class_order,
    flip_index,
    image_folder_class,
    keypoint_shape,
    view_names,
    yolo_rows,
)
from visionloop.data.annotations.presence import KEPT, REASONS, outcomes
from visionloop.data.annotations.tables import offsets

CLASSES = [{"id": 7, "name": "late"}, {"id": 0, "name": "defect"}, {"id": 3, "name": "middle"}]


LABELLED = ("detection", "segmentation", "pose")


def label(task: str = "detection", size: tuple[int, int] = (200, 100), *annotations: dict[str, Any]) -> str:
    value = document(
        [image("a.png", width=size[0], height=size[1], annotations=list(annotations))],
        classes=CLASSES,
        task_type=task,
    )
    return label_of(dataset(value))


def test_class_indices_follow_the_order_of_ids() -> None:
    read = dataset(document(classes=CLASSES))
    assert class_order(read) == ("defect", "middle", "late")
    assert class_index(read) == {0: 0, 3: 1, 7: 2}


def test_class_folders_are_safe_and_sort_like_the_classes() -> None:
    names = ["zebra", "a/b", "..", "한국어", "x" * 300, "images"]
    classes = [{"id": 2 * index, "name": name} for index, name in enumerate(names)]
    folders = class_folders(dataset(document(classes=classes)))
    assert list(folders) == [0, 2, 4, 6, 8, 10]
    assert list(folders.values()) == sorted(folders.values())
    assert folders[0] == "00000_zebra"
    assert all("/" not in folder and len(folder.encode()) < 255 for folder in folders.values())


def test_a_box_becomes_its_centre_and_size_as_fractions() -> None:
    assert label("detection", (200, 100), annotation(class_id=3, bbox=[20, 10, 100, 50])) == "1 0.35 0.35 0.5 0.5\n"
    assert label("detection", (3, 3), annotation(bbox=[0, 0, 1, 2])) == "0 0.166667 0.333333 0.333333 0.666667\n"


def test_a_box_is_clipped_to_the_image() -> None:
    assert label("detection", (200, 100), annotation(bbox=[-20, 50, 220, 80])) == "0 0.5 0.75 1 0.5\n"


def test_crowds_empty_boxes_and_repetitions_are_left_out() -> None:
    box = [20, 10, 100, 50]
    assert (
        label(
            "detection",
            (200, 100),
            annotation(bbox=box),
            annotation(bbox=box, id=5, attributes={"occluded": True}),
            annotation(bbox=[0, 0, 10, 10], iscrowd=1),
            annotation(bbox=[0, 0, 0, 10]),
            annotation(bbox=[300, 0, 10, 10]),
            annotation(bbox=None),
        )
        == "0 0.35 0.35 0.5 0.5\n"
    )


def test_an_image_without_objects_has_an_empty_label() -> None:
    assert label() == ""


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidDataset, match=r"a.png: class_id 5 is not a class of the dataset"):
        label("detection", (200, 100), annotation(class_id=5))


@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_annotations_never_changes_a_label(value: dict[str, Any], order: random.Random) -> None:
    before = {task: labels_of(dataset(value | {"task_type": task})) for task in LABELLED}
    for entry in value["images"]:
        order.shuffle(entry["annotations"])
    assert before == {task: labels_of(dataset(value | {"task_type": task})) for task in LABELLED}


@pytest.mark.parametrize(
    ("names", "expected", "count"),
    [(["nose", "tail"], ["nose", "tail"], 0), (["nose", "nose"], ["0", "1"], 1)],
)
def test_keypoints_of_one_name_are_numbered_and_told(
    names: list[str], expected: list[str], count: int, caplog: pytest.LogCaptureFixture
) -> None:
    value = document(task_type="pose")
    value["classes"] = [entry | {"keypoints": names} for entry in value["classes"]]
    snapshot: Any = SimpleNamespace(task="pose", annotations=dataset(value, "pose"))
    with caplog.at_level("INFO"):
        assert _keypoints(snapshot)[0] == expected
    assert sum("one name twice" in record.getMessage() for record in caplog.records) == count


#: Two polygons that overlap and reach the border: their union is drawn in steps that do not divide the width.
OVERLAPPING: dict[str, Any] = {
    "file_name": "0",
    "width": 1259,
    "height": 3,
    "split": "train",
    "annotations": [{"class_id": 0, "segmentation": [[0, 0, 0, 3, 1259.0, 0], [1, 0, 0, 1, 0, 0]]}],
}


@example(document([OVERLAPPING]))
@given(documents())
def test_boxes_and_polygons_lie_in_the_image(value: dict[str, Any]) -> None:
    for task in ("detection", "segmentation"):
        for text in labels_of(dataset(value | {"task_type": task})):
            for line in text.splitlines():
                assert all(0 <= float(number) <= 1 for number in line.split()[1:])


@given(documents(), st.booleans())
def test_all_boxes_at_once_are_what_each_is_by_itself(value: dict[str, Any], twice: bool) -> None:
    for entry in value["images"]:
        entry["annotations"] *= 1 + twice
    read = dataset(value)
    index, bounds, result = class_index(read), offsets(read), outcomes(read)
    reasons, repeats = [KEPT] * len(read.objects), {}
    for entry, text in zip(pictures(read), labels_of(read), strict=True):
        rows, left_out = yolo_rows(entry, "detection", index)
        assert text == "".join(sorted(" ".join(f"{value:g}" for value in row) + "\n" for row in rows))
        for dropped in left_out:
            at = int(bounds[entry.row]) + dropped.index
            reasons[at] = REASONS.index(dropped.reason)
            if dropped.repeats is not None:
                repeats[at] = int(bounds[entry.row]) + dropped.repeats
    assert (result.reasons.tolist(), dict(result.repeats)) == (reasons, repeats)


def test_a_polygon_is_written_as_fractions_clipped_to_the_image() -> None:
    polygon = [0, 0, 200.5, 0, 100, 50]
    assert label("segmentation", (200, 100), annotation(segmentation=[polygon])) == "0 0 0 1 0 0.5 0.5\n"


def test_polygons_of_one_object_are_joined_at_their_nearest_points() -> None:
    left, right = [0, 0, 40, 0, 40, 50, 0, 50], [200, 100, 60, 100, 60, 50]
    written = label("segmentation", (200, 100), annotation(segmentation=[left, right]))
    numbers = [float(number) for number in written.split()[1:]]
    points = [(round(x * 200), round(y * 100)) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    assert points == [(0, 0), (40, 0), (40, 50), (60, 50), (200, 100), (60, 100), (60, 50), (40, 50), (0, 50)]
    assert shoelace(points) == shoelace([(0, 0), (40, 0), (40, 50), (0, 50)]) + shoelace(
        [(200, 100), (60, 100), (60, 50)]
    )


def test_polygons_that_overlap_mean_their_union() -> None:
    """Trainers fill what an odd number of turns encloses: joined, what both enclose would be a hole."""
    first, second = [10, 10, 60, 10, 60, 60, 10, 60], [40, 40, 90, 40, 90, 90, 40, 90]
    written = label("segmentation", (200, 100), annotation(segmentation=[first, second], bbox=[10, 10, 80, 80]))
    numbers = [float(number) for number in written.split()[1:]]
    points = [(round(x * 200), round(y * 100)) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    # Cells of a hundredth of the extent or less, so a border is off by under a pixel.
    assert shoelace(points) == pytest.approx(2 * 50 * 50 - 20 * 20, rel=0.01)
    assert len(set(points)) == len(points) == 8


def shoelace(points: list[tuple[int, int]]) -> float:
    """Area of a polygon."""
    return abs(sum(x * b - a * y for (x, y), (a, b) in zip(points, points[1:] + points[:1], strict=True))) / 2


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 1, 2, 2]], [[1, 1, 1, 1, 1, 1]], {"size": [100, 200], "counts": "x"}]
)
def test_an_object_without_a_usable_polygon_is_left_out(segmentation: Any) -> None:
    assert label("segmentation", (200, 100), annotation(segmentation=segmentation)) == ""


def test_keypoints_follow_their_box() -> None:
    keypoints = [50, 25, 2, 300, 25, 2, 0, 0, 0, 100, 50, 1]
    written = label("pose", (200, 100), annotation(bbox=[20, 10, 100, 50], keypoints=keypoints))
    assert written == "0 0.35 0.35 0.5 0.5 0.25 0.25 2 0 0 0 0 0 0 0.5 0.5 1\n"
    assert label("pose", (200, 100), annotation(bbox=[20, 10, 100, 50], keypoints=[5, 5, 0])) == ""


def test_keypoints_and_their_mirror_image_are_told_for_training() -> None:
    names = ["nose", "left eye", "right eye"]
    classes = [{"id": 0, "name": "defect", "keypoints": names, "flip_pairs": [[1, 2]]}]
    read = dataset(document(classes=classes, task_type="pose"))
    assert keypoint_shape(read) == (3, 3)
    assert flip_index(read) == (0, 2, 1)


def test_keypoints_without_names_are_counted() -> None:
    read = dataset(document([image(annotations=[annotation(keypoints=[1, 1, 2, 2, 2, 1])])], task_type="pose"))
    assert keypoint_shape(read) == (2, 3)
    assert flip_index(read) is None
    assert keypoint_shape(dataset(document())) is None


def test_classes_that_mirror_differently_have_no_flip_index() -> None:
    classes = [
        {"id": 0, "name": "defect", "keypoints": ["a", "b"], "flip_pairs": [[0, 1]]},
        {"id": 1, "name": "other", "keypoints": ["a", "b"]},
    ]
    assert flip_index(dataset(document(classes=classes, task_type="pose"))) is None


def test_a_classification_image_has_one_class() -> None:
    read = dataset(document([image(annotations=[annotation(class_id=3), annotation(class_id=3)])]))
    assert image_folder_class(pictures(read)[0]) == 3
    for annotations in ([], [annotation(), annotation(class_id=3)]):
        wrong = dataset(document([image(annotations=annotations)]))
        with pytest.raises(InvalidDataset, match="keep exactly one label"):
            image_folder_class(pictures(wrong)[0])


def test_ordinary_names_stay() -> None:
    names = ["bottle/broken_large/000.png", "a.jpg", "v1.0/한국어 1.JPG", "a..b.tar.png", "b"]
    assert view_names(names) == {name: name for name in names}


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("images/a.png", "%69mages/a.png"),
        ("x/labels/a.png", "x/%6Cabels/a.png"),
        (".hidden.png", "%2Ehidden.png"),
        ("-rf.png", "%2Drf.png"),
        ("CON.png", "%43ON.png"),
        ("a:b?.png", "a%3Ab%3F.png"),
        ("100%.png", "100%25.png"),
        ("end./a.png", "end%2E/a.png"),
        (" ", "%20"),
        ("a\u202egnp.png", "a%E2%80%AEgnp.png"),
        ("a\u2028b.png", "a%E2%80%A8b.png"),
    ],
)
def test_odd_names_are_escaped(name: str, view: str) -> None:
    assert view_names([name]) == {name: view}


def test_stems_are_unique_because_labels_are_named_by_them() -> None:
    assert view_names(["a/x.png", "a/x.jpg", "b/x.png", "a/X.jpeg"]) == {
        "a/X.jpeg": "a/X.jpeg",
        "a/x.jpg": "a/x-7ec9164c.jpg",
        "a/x.png": "a/x-1308aee6.png",
        "b/x.png": "b/x.png",
    }


def test_a_name_made_to_meet_a_neighbours_stem_gets_a_longer_one() -> None:
    digest = hashlib.sha256(b"a.png").hexdigest()
    views = view_names(["a.jpg", "a.png", f"a-{digest[:8]}.jpg"])
    assert views["a.png"] == f"a-{digest[:16]}.png"


def test_a_file_and_a_folder_of_one_name_live_beside_each_other(tmp_path: Path) -> None:
    views = view_names(["a", "a/b.png", "c.png", "c.png/d.png", "e.png", "e.txt/f.png"])
    for view in views.values():
        for path in (tmp_path / "images" / view, tmp_path / "labels" / PurePosixPath(view).with_suffix(".txt")):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x"):
                pass


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    entry, other = "한" * 300 + "1.png", "한" * 300 + "2.png"
    views = view_names([entry, other])
    assert views[entry] != views[other]
    for view in views.values():
        assert view.endswith(".png")
        assert len(view.encode()) <= 200


@given(st.lists(file_names, unique=True, max_size=8))
@example(["a.jpg", "a.png", "a-" + "0" * 8 + ".png"])
@example(["%2Ea.png", ".a.png", "%252Ea.png"])
def test_views_are_safe_and_unique(names: list[str]) -> None:
    views = view_names(names)
    assert views.keys() == set(names)
    stems = [str(PurePosixPath(view).with_suffix("")).casefold() for view in views.values()]
    assert len(set(stems)) == len(stems)
    for name, view in views.items():
        parts = view.split("/")
        assert len(parts) == len(name.split("/"))
        assert view.isprintable()
        assert all(part and part[0] not in ".-~ " and len(part.encode()) <= 255 for part in parts)
        assert not {"images", "labels"} & set(parts)
        assert not set('<>:"|?*\\') & set(view)


@given(st.lists(file_names, unique=True, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_views_are_independent_of_order(names: list[str], order: random.Random) -> None:
    shuffled = list(names)
    order.shuffle(shuffled)
    assert view_names(shuffled) == view_names(names)


@given(st.lists(st.from_regex(r"[a-z]{1,3}\.png", fullmatch=True), unique=True, min_size=1), st.integers(1))
def test_views_stay_as_the_dataset_grows(names: list[str], size: int) -> None:
    before, after = view_names(names[:size]), view_names(names)
    assert all(after[name] == view for name, view in before.items())


CONVERT = """
from ultralytics.data.converter import convert_coco
for task in ("detection", "segmentation", "pose"):
    convert_coco("coco", task, task == "segmentation", task == "pose", cls91to80=False)
"""


def random_images(chance: random.Random) -> list[dict[str, Any]]:
    """Boxes inside their image, for the library does not clip; crowds, empty boxes and repetitions among them."""
    images = []
    for number in range(40):
        width, height = chance.randint(50, 2000), chance.randint(50, 2000)
        labels: list[dict[str, Any]] = []
        for _ in range(chance.randint(1, 6)):
            x, y = round(chance.uniform(0, width - 2), 2), round(chance.uniform(0, height - 2), 2)
            box = [x, y, round(chance.uniform(0, width - x), 2), round(chance.uniform(0, height - y), 2)]
            if chance.random() < 0.1:
                box[2] = 0
            polygon = [round(chance.uniform(0, (width, height)[index % 2]), 2) for index in range(8)]
            keypoints = [value for _ in range(3) for value in (*polygon[:2], chance.choice([1, 2]))]
            fields: dict[str, Any] = {"bbox": box, "segmentation": [polygon], "keypoints": keypoints}
            labels.append(annotation(class_id=chance.randint(0, 2), iscrowd=int(chance.random() < 0.1), **fields))
            if chance.random() < 0.2:
                labels.append(labels[-1])
        images.append(image(f"{number:03d}.png", number, width=width, height=height, annotations=labels))
    return images


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="ultralytics is not installed")
def test_labels_equal_those_of_the_librarys_own_conversion(tmp_path: Path) -> None:
    images = random_images(random.Random(20))
    coco = {
        "images": [{key: entry[key] for key in ("id", "file_name", "width", "height")} for entry in images],
        # The library's class ids start at 1.
        "annotations": [
            label | {"image_id": entry["id"], "category_id": label["class_id"] + 1}
            for entry in images
            for label in entry["annotations"]
        ],
    }
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "train.json").write_text(json.dumps(coco))
    settings = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    subprocess.run(
        [sys.executable, "-c", CONVERT],
        cwd=tmp_path,
        check=True,
        env=os.environ | settings | {"ULTRALYTICS_SAFE_LOAD": "true"},
    )
    classes = [{"id": index, "name": f"class {index}"} for index in range(3)]
    for task in ("detection", "segmentation", "pose"):
        read = dataset(document(images, classes=classes, task_type=task))
        compared = 0
        for entry, text in zip(pictures(read), labels_of(read), strict=True):
            theirs = (tmp_path / task / "labels" / "train" / entry.file_name).with_suffix(".txt").read_text()
            ours = text.splitlines()
            assert ours == sorted(theirs.splitlines())
            compared += len(ours)
        assert compared > 50


@given(
    st.lists(
        st.text("aAb.-_/1", min_size=1, max_size=5) | st.sampled_from(["images/a.png", "nul.png", "é.png"]), unique=True
    )
)
@example(["a.png", "b/c.png"])
@example(["a/b.png", "a.png"])
@example(["A.png", "a.jpg"])
def test_names_that_stay_are_told_of_all_at_once_as_one_by_one(names: list[str]) -> None:
    result = view_names(names)
    with mock.patch("visionloop.data.annotations.labels._stay", return_value=False):
        assert result == view_names(names)
