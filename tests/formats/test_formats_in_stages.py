"""Datasets of every format through snapshot, validate and convert: what they give, and that the same content is one dataset."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layouts import write
from PIL import Image
from reading import PICTURE
from small_datasets import converted, stage

from visionloop.components.convert.converted import Converted
from visionloop.components.evaluate.stage import _left_out
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.components.validate.report import Report
from visionloop.core import live
from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset
from visionloop.core.receipts import Result
from visionloop.data.images import ImageCache

CLASSES = ("cat", "dog")
NAMES = {"train": ("a", "b"), "val": ("c",), "test": ("d",)}
SIZE = (40, 20)

#: Class index and box of each image's objects, in pixels with two decimals.
BOXES: dict[str, list[tuple[int, list[float]]]] = {
    "a": [(0, [1.25, 2.5, 10.01, 12.75]), (1, [0.0, 0.0, 40.0, 20.0])],
    "b": [(1, [3.0, 4.0, 5.0, 6.0])],
    "c": [(0, [20.5, 10.25, 7.33, 4.1])],
    "d": [(0, [1.0, 1.0, 2.0, 2.0]), (1, [5.0, 5.0, 9.99, 9.99])],
}


def pictures(folder: Path, key: str = "images/{split}/{name}.png") -> Path:
    for number, (split, name) in enumerate((split, name) for split, names in NAMES.items() for name in names):
        path = folder / key.format(split=split, name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (number * 60, 90, 0)).save(path)
    return folder


def dice(folder: Path) -> Path:
    images = [
        {
            "file_name": f"{split}/{name}.png",
            "width": SIZE[0],
            "height": SIZE[1],
            "split": split,
            "annotations": [{"class_id": number, "bbox": box} for number, box in BOXES[name]],
        }
        for split, names in NAMES.items()
        for name in names
    ]
    classes = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    document = {"format_version": "1.0", "task_type": "detection", "classes": classes, "images": images}
    return write(pictures(folder), {"annotations_detection.json": document})


def coco(folder: Path) -> Path:
    for split, names in NAMES.items():
        images = [
            {"id": number, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]}
            for number, name in enumerate(names)
        ]
        labels = [
            {"id": 10 * number + index, "image_id": number, "category_id": class_index + 1, "bbox": box}
            for number, name in enumerate(names)
            for index, (class_index, box) in enumerate(BOXES[name])
        ]
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
        document = {"images": images, "annotations": labels, "categories": categories}
        write(folder, {f"annotations/instances_{split}.json": document})
    return pictures(folder)


def yolo(folder: Path) -> Path:
    for split, names in NAMES.items():
        for name in names:
            lines = [
                f"{number} {(x + w / 2) / SIZE[0]:.6f} {(y + h / 2) / SIZE[1]:.6f} {w / SIZE[0]:.6f} {h / SIZE[1]:.6f}\n"
                for number, (x, y, w, h) in BOXES[name]
            ]
            write(folder, {f"labels/{split}/{name}.txt": "".join(lines)})
    splits = "".join(f"{split}: images/{split}\n" for split in NAMES)
    return write(pictures(folder), {"data.yaml": f"path: .\n{splits}names: [cat, dog]\n"})


def voc(folder: Path) -> Path:
    for split, names in NAMES.items():
        for name in names:
            objects = "".join(
                f"<object><name>{CLASSES[number]}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
                for number, (x, y, w, h) in BOXES[name]
            )
            size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
            write(folder, {f"Annotations/{name}.xml": f"<annotation>{size}{objects}</annotation>"})
        write(folder, {f"ImageSets/Main/{split}.txt": "".join(f"{name}\n" for name in names)})
    return pictures(folder, "JPEGImages/{name}.png")


def cvat(folder: Path) -> Path:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = "".join(
        f"<image id='{number}' name='{name}.png' subset='{split}' width='{SIZE[0]}' height='{SIZE[1]}'>"
        + "".join(
            f"<box label='{CLASSES[index]}' xtl='{x}' ytl='{y}' xbr='{x + w}' ybr='{y + h}'/>"
            for index, (x, y, w, h) in BOXES[name]
        )
        + "</image>"
        for number, (split, name) in enumerate((split, name) for split, names in NAMES.items() for name in names)
    )
    text = f"<annotations><meta><task><labels>{labels}</labels></task></meta>{images}</annotations>"
    return write(pictures(folder, "images/{name}.png"), {"annotations.xml": text})


def labelstudio(folder: Path) -> Path:
    tasks: list[dict[str, Any]] = []
    for names in NAMES.values():
        for name in names:
            result = [
                {
                    "type": "rectanglelabels",
                    "original_width": SIZE[0],
                    "original_height": SIZE[1],
                    "value": {
                        "x": 100 * x / SIZE[0],
                        "y": 100 * y / SIZE[1],
                        "width": 100 * w / SIZE[0],
                        "height": 100 * h / SIZE[1],
                        "rectanglelabels": [CLASSES[number]],
                    },
                }
                for number, (x, y, w, h) in BOXES[name]
            ]
            data = {"image": f"/data/upload/1/0123abcd-{name}.png"}
            tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"id": 1, "result": result}]})
    return write(pictures(folder, "images/{name}.png"), {"export.json": tasks})


def folder_of(folder: Path) -> dict[str, Path]:
    """The files of a folder by key."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


DETECTION = {"dice": dice, "coco": coco, "yolo": yolo, "voc": voc, "cvat": cvat, "labelstudio": labelstudio}


def through(folder: Path, workspace: Path) -> tuple[Report, Result, Snapshot]:
    report, result = converted(folder, workspace)
    return report, result, Snapshot(result.input("snapshot", "snapshot"))


@pytest.mark.parametrize("name", DETECTION)
def test_the_labels_are_those_of_dice(tmp_path: Path, name: str) -> None:
    report, result, snapshot = through(DETECTION[name](tmp_path / name), tmp_path / "work")
    assert (report.errors, report.labels_left_out) == (0, {})
    assert sum(report.labels.values()) == 6
    assert snapshot.annotations.format == name
    assert snapshot.task == "detection"
    assert [entry.name for entry in snapshot.annotations.classes] == list(CLASSES)
    view = tmp_path / "view"
    assert Converted(result).view(snapshot, view, ImageCache(tmp_path / "cache")) == 4
    labels = {path.stem: path.read_text() for path in view.rglob("*.txt")}
    assert labels["b"] == "1 0.1375 0.35 0.125 0.3\n"
    assert labels["a"].splitlines() == ["0 0.156375 0.44375 0.25025 0.6375", "1 0.5 0.5 1 1"]
    assert sorted(path.stem for path in view.rglob("*.png")) == ["a", "b", "c", "d"]


def test_the_same_content_is_the_same_dataset_from_dice_coco_and_yolo(tmp_path: Path) -> None:
    made = {name: through(DETECTION[name](tmp_path / name), tmp_path / "work") for name in ("dice", "coco", "yolo")}
    assert len({snapshot.identity.encode() for _, _, snapshot in made.values()}) == 1
    # One conversion serves all: what is trained from it is found again whatever format the dataset came in.
    assert len({result.receipt.digest for _, result, _ in made.values()}) == 1


def test_the_same_dataset_in_another_format_at_the_same_place(tmp_path: Path) -> None:
    place, work = tmp_path / "set", tmp_path / "work"
    _, first, _ = through(yolo(place), work)
    shutil.rmtree(place)
    taken = stage("snapshot", work, dataset=str(coco(place)))
    assert taken.uri == first.input("snapshot", "snapshot").uri
    assert stage("validate", work, snapshot=taken.uri, mode="headers").receipt.scalars["errors"] == 0
    # The format of before counts while it fits, also where another one would too.
    yolo(place)
    assert stage("validate", work, snapshot=taken.uri, mode="annotations").receipt.scalars["errors"] == 0


def test_one_conversion_serves_a_dataset_whose_images_lie_elsewhere(tmp_path: Path) -> None:
    """Of equal file names, one dataset's images lie below images/, the other's at the root."""
    _, first, _ = through(coco(tmp_path / "coco"), tmp_path / "work")
    moved = coco(tmp_path / "moved")
    for split in NAMES:
        (moved / "images" / split).rename(moved / split)
    _, second, _ = through(moved, tmp_path / "work")
    assert second.uri == first.uri
    taken = stage("snapshot", tmp_path / "work", dataset=str(moved))
    assert Converted(second).view(Snapshot(taken), tmp_path / "view", ImageCache(tmp_path / "cache")) == 4


def test_images_that_move_within_their_dataset_are_frozen_where_they_lie_now(tmp_path: Path) -> None:
    folder, workspace = coco(tmp_path / "dataset"), tmp_path / "work"

    def taken(key: str) -> tuple[Snapshot, Result]:
        snapshot = stage("snapshot", workspace, dataset=folder.as_uri())
        report = stage("validate", workspace, snapshot=snapshot.uri, mode="full")
        keys = Snapshot(snapshot).annotations.images["key"].to_pylist()
        assert sorted(keys) == sorted(key.format(split=split, name=name) for split in NAMES for name in NAMES[split])
        return Snapshot(snapshot), stage("convert", workspace, snapshot=snapshot.uri, report=report.uri)

    before, first = taken("images/{split}/{name}.png")
    for split in NAMES:
        shutil.move(folder / "images" / split, folder / split)
    after, second = taken("{split}/{name}.png")
    (folder / "images").rmdir()
    assert (after.id, after.result.receipt.digest) == (before.id, before.result.receipt.digest)
    assert after.result.uri != before.result.uri
    assert second.uri == first.uri


def test_class_folders_keep_their_numbers_where_a_split_lacks_a_class(tmp_path: Path) -> None:
    keys = ("train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/dog/4.png")
    folder = tmp_path / "pets"
    for number, key in enumerate(keys):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 60, 0, 0)).save(folder / key)
    _, result, snapshot = through(folder, tmp_path / "work")
    assert (snapshot.task, snapshot.annotations.format) == ("classification", "folders")
    entries = [json.loads(line)["path"] for line in result.read("index").splitlines()]
    assert sorted(entries) == [
        "test/00001_dog/test/dog/4.png",
        "train/00000_cat/train/cat/1.png",
        "train/00001_dog/train/dog/2.png",
        "val/00001_dog/val/dog/3.png",
    ]


def test_images_that_val_and_test_both_name_count_in_both(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "yolo")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\ntest: images/val\nnames: [cat, dog]\n"
    )
    _, result, snapshot = through(folder, tmp_path / "work")
    assert snapshot.result.receipt.scalars["test"] == 1
    assert snapshot.test_was_seen
    paths = [json.loads(line)["path"] for line in result.read("index").splitlines()]
    assert sorted(paths) == [
        "images/test/val/c.png",
        "images/train/train/a.png",
        "images/train/train/b.png",
        "images/val/val/c.png",
    ]


def test_a_format_that_is_named_is_read_and_one_that_is_unknown_is_refused(tmp_path: Path) -> None:
    folder = write(
        coco(tmp_path / "both"),
        {
            "annotations_detection.json": json.loads(
                (dice(tmp_path / "dice") / "annotations_detection.json").read_text()
            )
        },
    )
    with pytest.raises(
        InvalidConfig, match="could both be meant; choose --dataset-format dice or --dataset-format coco"
    ):
        stage("snapshot", tmp_path / "work", dataset=str(folder))
    taken = stage("snapshot", tmp_path / "work", dataset=str(folder), dataset_format="coco")
    assert taken.receipt.parameters["dataset_format"].value == "coco"
    with pytest.raises(InvalidConfig, match="--dataset-format pascal: no such format is read; choose one of dice"):
        stage("snapshot", tmp_path / "work", dataset=str(folder), dataset_format="pascal")


def spoiled_coco(folder: Path) -> None:
    path = folder / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][1]["bbox"] = [30, 4, 20, 8]
    path.write_text(json.dumps(document))


def renumbered_coco(folder: Path) -> None:
    path = folder / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = 7
    path.write_text(json.dumps(document))


def spoiled_yolo(folder: Path) -> None:
    (folder / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5\n1 1 0.5 0.5 0.5\n")


def renumbered_yolo(folder: Path) -> None:
    (folder / "labels/train/b.txt").write_text("7 0.5 0.5 0.25 0.5\n")


def spoiled_voc(folder: Path) -> None:
    path = folder / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmax>40.0<", "<xmax>90.0<"))


def larger_voc(folder: Path) -> None:
    path = folder / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<width>40<", "<width>50<"))


def spoiled_picture(folder: Path) -> None:
    (folder / "images/train/a.png").write_bytes(PICTURE[:20])


@pytest.mark.parametrize(
    ("make", "spoil", "sentence"),
    [
        (coco, spoiled_coco, "annotations[1].bbox [30, 4, 20, 8] reaches outside the image of 40 × 20"),
        (coco, renumbered_coco, "annotations[0].category_id 7 is not a class of the file (1 to 2)"),
        (
            yolo,
            spoiled_yolo,
            "labels/train/a.txt: train/a.png: line 2: bbox [30, 5, 20, 10] reaches outside the image of 40 × 20",
        ),
        (
            yolo,
            renumbered_yolo,
            "labels/train/b.txt: train/b.png: line 1: class_id 7 is not a class of the dataset (0 to 1)",
        ),
        (yolo, spoiled_picture, "data.yaml: image: file_name images/train/a.png can't be read as an image"),
        (
            voc,
            spoiled_voc,
            "Annotations/a.xml: JPEGImages/a.png: object[1].bbox [0, 0, 90, 20] reaches outside the image of 40 × 20",
        ),
        (
            voc,
            larger_voc,
            "Annotations/a.xml: annotation: width and height say 50 × 20, but JPEGImages/a.png is 40 × 20",
        ),
    ],
)
def test_a_finding_names_the_place_in_the_formats_own_words(
    tmp_path: Path, make: Callable[[Path], Path], spoil: Callable[[Path], None], sentence: str
) -> None:
    folder = make(tmp_path / "set")
    spoil(folder)
    with pytest.raises(InvalidDataset) as refused:
        converted(folder, tmp_path / "work")
    assert sentence in refused.value.sentence


def test_a_correction_that_changes_no_label_is_seen(tmp_path: Path) -> None:
    """The hash of the dataset does not cover a class's name that is written next to its id."""
    folder = dice(tmp_path / "dice")
    path = folder / "annotations_detection.json"
    right = path.read_text()
    wrong = json.loads(right)
    wrong["images"][0]["annotations"][0]["class_name"] = "horse"
    path.write_text(json.dumps(wrong))
    with pytest.raises(InvalidDataset, match='class_name "horse" disagrees with class_id 0'):
        converted(folder, tmp_path / "work")
    path.write_text(right)
    report, _ = converted(folder, tmp_path / "work")
    assert report.errors == 0
    path.write_text(json.dumps(wrong))
    with pytest.raises(InvalidDataset, match="horse"):
        converted(folder, tmp_path / "work")


@pytest.mark.parametrize("name", ["dice", "coco"])
def test_what_is_read_and_what_is_passed_over_are_notices_of_the_run(tmp_path: Path, name: str) -> None:
    folder = DETECTION[name](tmp_path / name)
    os.mkfifo(folder / "images" / "pipe.png")
    stage("snapshot", tmp_path / "work", dataset=str(folder))
    notices = " ".join(json.loads((tmp_path / "work/runs/one/snapshot.json").read_text())["notices"])
    assert "passed over: images/pipe.png (a pipe, a socket or a device)" in notices
    told = "read as a COCO dataset (annotations/instances_test.json), detection: train 2, val 1, test 1."
    assert (told in notices) == (name == "coco")


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_what_is_missing_or_unreadable_is_found_without_reading_an_image(tmp_path: Path, name: str) -> None:
    folder = DETECTION[name](tmp_path / name)
    if name == "coco":
        (folder / "images/train/a.png").unlink()
    else:
        spoiled_picture(folder)
    taken = stage("snapshot", tmp_path / "work", dataset=str(folder))
    sentence = "images/train/a.png does not exist" if name == "coco" else "images/train/a.png can't be read as an image"
    with pytest.raises(InvalidDataset, match=sentence):
        stage("validate", tmp_path / "work", snapshot=taken.uri, mode="annotations")


def test_an_image_of_val_and_test_that_is_left_out_is_named_by_evaluate(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "yolo")
    shared = "path: .\ntrain: images/train\nval: [images/val, images/test]\ntest: [images/val, images/test]\nnames: [cat, dog]\n"
    (folder / "data.yaml").write_text(shared)
    Image.new("RGB", (40, 5)).save(folder / "images/val/c.png")
    _, result, snapshot = through(folder, tmp_path / "work")
    entries = [entry for entry in Converted(result).index() if entry.split == "test"]
    assert [entry.file_name for entry in entries] == ["test/d.png"]
    assert _left_out(snapshot, Converted(result), entries) == {"val/c.png": "image_too_small"}


def test_images_without_fields_are_grouped_by_folder_and_a_date_of_theirs_is_refused(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "yolo")
    halves = "train=0.4,val=0.3,test=0.3"
    taken = Snapshot(stage("snapshot", tmp_path / "work", dataset=str(folder), split=f"{halves},group=folder"))
    splits = dict(zip(taken.table["file_name"].to_pylist(), taken.table["split"].to_pylist(), strict=True))
    assert splits["train/a.png"] == splits["train/b.png"]
    assert taken.identity.split["rule"] == {"train": 0.4, "val": 0.3, "test": 0.3, "seed": 0, "group": "folder"}
    with pytest.raises(InvalidConfig, match="time=taken: YOLO states no fields of images"):
        stage("snapshot", tmp_path / "work", dataset=str(folder), split="time=taken,val=2026-01-01,test=2026-02-01")


@pytest.mark.parametrize("make", [dice, yolo])
def test_a_selection_is_in_the_key_by_its_words_and_in_the_digest_by_its_outcome(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder, work = make(tmp_path / "dataset"), tmp_path / "work"
    whole = stage("snapshot", work, dataset=str(folder))
    everything = stage("snapshot", work, dataset=str(folder), where=" width > 0 ")
    assert "where" not in whole.receipt.parameters
    assert everything.receipt.parameters["where"].value == "width > 0"
    assert everything.receipt.key != whole.receipt.key
    assert everything.receipt.digest == whole.receipt.digest
    taken = stage("snapshot", work, dataset=str(folder), where="file_name != 'train/b.png' and class_name == 'dog'")
    snapshot = Snapshot(taken)
    assert (len(snapshot.table), len(snapshot.annotations.objects)) == (3, 2)
    assert snapshot.id != Snapshot(whole).id
    said = "--where leaves out 1 of 4 images and 4 of 6 objects; 1 of the images that stay lose all their objects"
    assert any(said in notice for notice in snapshot.annotations.notices)
    assert snapshot.selection.facts(snapshot.annotations) == {
        "Where": "file_name != 'train/b.png' and class_name == 'dog'",
        "Left out": "1 of 4 images and 4 of 6 objects; 1 of the images that stay lose all their objects and are background",
    }
    # What validate reads again is selected in the same way, and so is what an id names later.
    report = stage("validate", work, snapshot=taken.uri)
    assert report.receipt.scalars["errors"] == 0
    again = stage("snapshot", work, snapshot=snapshot.id)
    assert again.uri == taken.uri
    with pytest.raises(InvalidConfig, match="--where and --snapshot are both given"):
        stage("snapshot", work, snapshot=snapshot.id, where="width > 0")


def test_a_change_of_what_is_not_selected_is_no_change(tmp_path: Path) -> None:
    folder, work = dice(tmp_path / "dataset"), tmp_path / "work"
    taken = stage("snapshot", work, dataset=str(folder), where="class_name == 'dog'")
    file = folder / "annotations_detection.json"
    document = json.loads(file.read_text())
    document["images"][0]["annotations"][0]["bbox"] = [1, 1, 2, 2]
    file.write_text(json.dumps(document))
    stage("validate", work, snapshot=taken.uri)
    document["images"][0]["annotations"][1]["bbox"] = [1, 1, 2, 2]
    file.write_text(json.dumps(document))
    with pytest.raises(DatasetChanged, match="1 image with changed annotations"):
        stage("validate", work, snapshot=taken.uri, mode="annotations")


def test_classes_are_in_the_key_by_content_and_ignored_objects_are_crowds(tmp_path: Path) -> None:
    folder, work = dice(tmp_path / "dataset"), tmp_path / "work"
    file = tmp_path / "classes.yaml"
    file.write_text("ignore: [cat]\nrename:\n  dog: wolf\n")
    taken = stage("snapshot", work, dataset=str(folder), classes=str(file))
    mapping = {"ignore": ["cat"], "rename": {"dog": "wolf"}}
    assert taken.receipt.parameters["classes"].value == mapping
    assert stage("snapshot", work, dataset=str(folder), classes=json.dumps(mapping)).uri == taken.uri
    assert (
        stage("snapshot", work, dataset=str(folder), classes="{}").uri
        == stage("snapshot", work, dataset=str(folder)).uri
    )
    snapshot = Snapshot(taken)
    report = stage("validate", work, snapshot=taken.uri)
    result = Converted(stage("convert", work, snapshot=taken.uri, report=report.uri))
    assert result.classes == ("wolf",)
    assert validation.read(report).labels_left_out == {"crowd": 3}
    assert (report.receipt.scalars["errors"], result.result.receipt.scalars["objects"]) == (0, 3)
    assert snapshot.annotations.notices == (
        '--classes: ignores "cat", whose 3 objects act as crowd regions.',
        '--classes: renames "dog" to "wolf".',
        "--classes: 1 class is left.",
    )
    assert snapshot.selection.facts(snapshot.annotations) == {
        "Classes chosen": 'ignores "cat", whose 3 objects act as crowd regions; renames "dog" to "wolf"; 1 class is left'
    }
    with pytest.raises(InvalidDataset, match=r'drop: "cats" is not a class of the dataset \(did you mean "cat"\?\)'):
        stage("snapshot", work, dataset=str(folder), classes='{"drop": ["cats"]}')
    with pytest.raises(InvalidConfig, match=r"--classes .*nowhere.yaml: no text file can be read there"):
        stage("snapshot", work, dataset=str(folder), classes=str(tmp_path / "nowhere.yaml"))


def test_an_expression_speaks_of_the_datasets_own_classes(tmp_path: Path) -> None:
    folder, work = dice(tmp_path / "dataset"), tmp_path / "work"
    both = {"dataset": str(folder), "classes": '{"rename": {"dog": "wolf"}}'}
    taken = Snapshot(stage("snapshot", work, **both, where="class_name == 'dog'"))
    assert len(taken.annotations.objects) == 3
    assert len(Snapshot(stage("snapshot", work, **both, where="class_name == 'wolf'")).annotations.objects) == 0


def test_the_listing_of_validate_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = yolo(tmp_path / "yolo")
    taken = stage("snapshot", tmp_path / "work", dataset=str(folder))
    monkeypatch.setenv(live.VARIABLE, str(tmp_path / "events"))
    stage("validate", tmp_path / "work", snapshot=taken.uri)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    files = len(folder_of(folder))
    listed = [(event["stage"], event["done"], event["before"]) for event in events if event["kind"] == "listing"]
    assert listed == [("validate", files, files)]
