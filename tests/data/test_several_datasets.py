"""Several datasets as one: what snapshot freezes of them, and where everything behind it reads their images."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_datasets import BOX, POSE, dataset, stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import catalog
from visionloop.core.errors import DatasetChanged, DatasetNotFound, InvalidConfig, InvalidDataset, VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage
from visionloop.core.storage import open_prefix
from visionloop.data.annotations.split_rules import fraction
from visionloop.data.annotations.tables import column
from visionloop.data.datasets import dataset_sentence, datasets_text
from visionloop.data.images import ImageCache
from visionloop.pipelines.cli.exchange import exported
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.plan import stage_plans
from visionloop.pipelines.snapshots import difference
from visionloop.pipelines.snapshots.listing import details
from visionloop.pipelines.snapshots.page import render

FILE = "annotations_{}.json"


def document(folder: Path, task: str = "detection") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / FILE.format(task)).read_text())
    return value


def rewrite(folder: Path, task: str = "detection", **top: Any) -> None:
    (folder / FILE.format(task)).write_text(json.dumps(document(folder, task) | top))


def picture(folder: Path, name: str, shade: int) -> None:
    (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade, shade, 7)).save(folder / "images" / name)


def coloured(folder: Path, names: list[str], classes: list[str], shade: int, **top: Any) -> Path:
    """A dataset for detection: the images of these names, every second of class 1, the last two in val and test."""
    splits = [*["train"] * (len(names) - 2), "val", "test"]
    images = [
        {
            "file_name": name,
            "width": 32,
            "height": 32,
            "split": split,
            "annotations": [BOX | {"class_id": 10 * (number % len(classes))}],
        }
        for number, (name, split) in enumerate(zip(names, splits, strict=True))
    ]
    for number, name in enumerate(names):
        picture(folder, name, shade + number)
    value: dict[str, Any] = {"format_version": "1.0", "task_type": "detection", "dataset_id": "1", "dataset_name": "n"}
    value |= {"classes": [{"id": 10 * number, "name": name} for number, name in enumerate(classes)], "images": images}
    (folder / FILE.format("detection")).write_text(json.dumps(value | top))
    return folder


#: In two buckets of one store.
IN_STORE = ("s3://datasets/several/day", "s3://results/several/night")


@pytest.fixture
def day(tmp_path: Path) -> Path:
    return coloured(tmp_path / "day", ["a.png", "b.png", "c.png", "d.png"], ["car", "van"], 0)


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return coloured(tmp_path / "night", ["b.png", "c.png", "x/e.png", "f.png"], ["lamp", "car"], 100)


def taken(workspace: Path, *datasets: Any, **options: Any) -> Snapshot:
    values = [str(entry) if isinstance(entry, Path) else json.dumps(entry) for entry in datasets]
    return Snapshot(stage("snapshot", workspace, dataset=values, **options))


def through(workspace: Path, snapshot: Snapshot, **options: Any) -> tuple[validation.Report, Result]:
    report = stage("validate", workspace, snapshot=snapshot.result.uri, **options)
    return validation.read(report), stage("convert", workspace, snapshot=snapshot.result.uri, report=report.uri)


def view(workspace: Path, snapshot: Snapshot, converted: Result, folder: Path) -> ImageCache:
    cache = ImageCache(workspace.parent / "cache")
    Converted(converted).view(snapshot, folder, cache, ("train", "val", "test"))
    return cache


def test_one_dataset_keeps_key_digest_and_receipt_however_it_is_written(tmp_path: Path, day: Path) -> None:
    alone = stage("snapshot", tmp_path / "one", dataset=str(day))
    for number, way in enumerate(
        (json.dumps([str(day)]), [str(day)], json.dumps({"uri": str(day), "name": "x", "weight": 1}))
    ):
        other = stage("snapshot", tmp_path / f"other-{number}", dataset=way)
        assert (other.receipt.key, other.receipt.digest) == (alone.receipt.key, alone.receipt.digest)
        assert other.receipt.parameters == alone.receipt.parameters
        assert other.receipt.scalars == alone.receipt.scalars
        sums = [{name: output.sha256 for name, output in each.receipt.outputs.items()} for each in (alone, other)]
        assert sums[0] == sums[1]
    schema = pq.read_schema(io.BytesIO(alone.read("manifest")))
    assert not {"dataset", "repeats"} & set(schema.names)
    assert b'"parts"' not in pq.read_metadata(io.BytesIO(alone.read("annotations"))).metadata[b"visionloop"]


def test_classes_are_merged_by_name_and_clashing_names_begin_with_their_dataset(
    tmp_path: Path, day: Path, night: Path
) -> None:
    snapshot = taken(tmp_path / "work", day, night)
    names = ["a.png", "d.png", "day/b.png", "day/c.png", "f.png", "night/b.png", "night/c.png", "x/e.png"]
    assert snapshot.table["file_name"].to_pylist() == sorted(names)
    annotations = snapshot.annotations
    assert [entry.name for entry in annotations.classes] == ["car", "van", "lamp"]
    ranks = dict(
        zip(annotations.images["file_name"].to_pylist(), column(annotations.objects, "class_id").tolist(), strict=True)
    )
    assert ranks == {
        "a.png": 0,
        "day/b.png": 1,
        "day/c.png": 0,
        "d.png": 1,
        "night/b.png": 2,
        "night/c.png": 0,
        "x/e.png": 2,
        "f.png": 0,
    }
    manifest = pq.read_table(io.BytesIO(snapshot.result.read("manifest")))
    stored = zip(*(manifest[name].to_pylist() for name in ("file_name", "dataset", "key")), strict=True)
    assert ("night/c.png", "night", "images/c.png") in set(stored)
    assert set(manifest["dataset"].to_pylist()) == {"day", "night"}
    assert snapshot.result.receipt.scalars["datasets"] == {
        name: {"images": 4, "train": 2, "val": 1, "test": 1} for name in ("day", "night")
    }
    assert snapshot.dataset == f"{day.as_uri()} and {night.as_uri()}"
    assert snapshot.title == "day and night"


def test_each_image_is_read_in_its_own_dataset(tmp_path: Path, day: Path, night: Path) -> None:
    snapshot = taken(tmp_path / "work", day, night)
    report, converted = through(tmp_path / "work", snapshot, mode="full")
    assert report.errors == 0
    view(tmp_path / "work", snapshot, converted, tmp_path / "view")
    shown = {
        path.relative_to(tmp_path / "view/images").as_posix(): path.read_bytes()
        for path in (tmp_path / "view/images").rglob("*.png")
    }
    assert shown == {
        "train/a.png": (day / "images/a.png").read_bytes(),
        "train/day/b.png": (day / "images/b.png").read_bytes(),
        "val/day/c.png": (day / "images/c.png").read_bytes(),
        "test/d.png": (day / "images/d.png").read_bytes(),
        "train/night/b.png": (night / "images/b.png").read_bytes(),
        "train/night/c.png": (night / "images/c.png").read_bytes(),
        "val/x/e.png": (night / "images/x/e.png").read_bytes(),
        "test/f.png": (night / "images/f.png").read_bytes(),
    }
    labels = tmp_path / "view/labels"
    assert (labels / "train/night/b.txt").read_text().startswith("2 ")
    assert (labels / "train/night/c.txt").read_text().startswith("0 ")


def test_the_order_of_the_datasets_decides_the_order_of_the_classes(tmp_path: Path, day: Path, night: Path) -> None:
    assert [entry.name for entry in taken(tmp_path / "work", night, day).annotations.classes] == ["lamp", "car", "van"]


def test_a_name_of_a_dataset_does_not_reach_the_digest_unless_a_file_has_it(tmp_path: Path, day: Path) -> None:
    other = coloured(tmp_path / "other", ["g.png", "h.png", "i.png"], ["car"], 50)
    first = taken(tmp_path / "work", day, other)
    second = taken(tmp_path / "work", day, {"uri": str(other), "name": "third"})
    assert first.id == second.id
    assert first.result.receipt.key != second.result.receipt.key


def test_the_split_of_an_image_does_not_change_with_the_datasets_beside_it(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(12)]
    first = coloured(tmp_path / "first", names, ["car"], 0)
    second = coloured(tmp_path / "second", names, ["car"], 100)
    rule = "train=0.5,val=0.25,test=0.25"
    splits = {row.file_name: row.split for row in taken(tmp_path / "work", first, split=rule).rows}
    both = {row.file_name: row.split for row in taken(tmp_path / "work", first, second, split=rule).rows}
    assert both == {f"{name}/{file}": split for name in ("first", "second") for file, split in splits.items()}


def test_groups_are_those_of_each_datasets_own_names(tmp_path: Path) -> None:
    names = [f"cam{number % 6}/{number}.png" for number in range(12)]
    first = coloured(tmp_path / "first", names, ["car"], 0)
    second = coloured(tmp_path / "second", names, ["car"], 100)
    rule = "train=0.5,val=0.25,test=0.25,seed=1,group=folder"
    splits = {row.file_name: row.split for row in taken(tmp_path / "work", first, split=rule).rows}
    both = {row.file_name: row.split for row in taken(tmp_path / "work", first, second, split=rule).rows}
    assert both == {f"{name}/{file}": split for name in ("first", "second") for file, split in splits.items()}
    assert all(len({splits[name] for name in names if name.startswith(f"cam{number}/")}) == 1 for number in range(6))


def test_the_variable_may_hold_several(tmp_path: Path, day: Path, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET_S3_URI", json.dumps([str(day), str(night)]))
    assert len(Snapshot(stage("snapshot", tmp_path / "work")).rows) == 8


def test_a_plan_says_which_datasets_and_weights_differ(tmp_path: Path, day: Path, night: Path) -> None:
    taken(tmp_path / "work", day, night)
    arguments = {"workspace": str(tmp_path / "work"), "settings": ["model=yolo11n.yaml"]}
    heavy = datasets_text([str(day), json.dumps({"uri": str(night), "weight": 2})])
    first = next(stage_plans({**arguments, "dataset": heavy}))
    uris = day.as_uri(), night.as_uri()
    assert first.action == "run"
    assert first.reasons == [f"dataset {uris[0]} and {uris[1]} → {uris[0]} and {uris[1]} × 2"]
    again = next(stage_plans({**arguments, "dataset": datasets_text([str(day), str(night)])}))
    assert again.action == "reuse"


def test_a_datasets_own_split_config_is_applied_to_it_alone(tmp_path: Path, day: Path) -> None:
    names = [f"{number}.png" for number in range(20)]
    own = coloured(tmp_path / "own", names, ["car"], 100)
    (own / "metadata.json").write_text(json.dumps({"split_config": {"train": 0.6, "val": 0.2, "test": 0.2}}))
    snapshot = taken(tmp_path / "work", day, own)
    splits = {row.file_name: row.split for row in snapshot.rows}
    assert [splits[name] for name in ("a.png", "b.png", "c.png", "d.png")] == ["train", "train", "val", "test"]
    for name in names:
        u = fraction(name)
        assert splits[name] == ("test" if u < 0.2 else "val" if u < 0.4 else "train")
    assert snapshot.identity.split["rule"] == [None, {"train": 0.6, "val": 0.2, "test": 0.2, "seed": 0, "group": None}]
    by_rule = taken(tmp_path / "work", day, own, split="train=0.5,val=0.25,test=0.25")
    assert {row.file_name: row.split for row in by_rule.rows} != splits
    through(tmp_path / "work", snapshot)


def test_where_and_classes_speak_of_the_whole(tmp_path: Path, day: Path, night: Path) -> None:
    snapshot = taken(
        tmp_path / "work", day, night, where="class_name != 'van'", classes='{"rename": {"lamp": "light"}}'
    )
    assert [entry.name for entry in snapshot.annotations.classes] == ["car", "van", "light"]
    assert len(snapshot.annotations.objects) == 6
    through(tmp_path / "work", snapshot)


def test_metadata_that_one_dataset_lacks_is_not_there(tmp_path: Path, day: Path, night: Path) -> None:
    images = document(day)["images"]
    rewrite(day, images=[entry | {"metadata": {"source": "sun"}} for entry in images])
    snapshot = taken(tmp_path / "work", day, night, where="metadata.source == 'sun'")
    assert len(snapshot.rows) == 4
    with pytest.raises(InvalidDataset, match="keeps none"):
        taken(tmp_path / "work", day, night, where="metadata.source == 'sun' and file_name == 'f.png'")


def test_equal_bytes_in_two_splits_are_found_across_datasets(tmp_path: Path, day: Path, night: Path) -> None:
    (night / "images/f.png").write_bytes((day / "images/a.png").read_bytes())
    snapshot = taken(tmp_path / "work", day, night)
    with pytest.raises(
        InvalidDataset, match=r"day/images/a\.png of train has the same bytes as night/images/f\.png of test"
    ):
        stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)


def test_findings_name_dataset_file_and_place(tmp_path: Path, day: Path, night: Path) -> None:
    images = document(night)["images"]
    images[1]["annotations"][0]["class_id"] = 1
    rewrite(night, images=images)
    snapshot = taken(tmp_path / "work", day, night)
    with pytest.raises(InvalidDataset) as refused:
        stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)
    assert str(refused.value).startswith(
        "night/annotations_detection.json: night/c.png: images[1].annotations[0].class_id 1 is not a class of the dataset"
    )


def test_a_weight_repeats_train_images_and_no_others(tmp_path: Path, day: Path, night: Path) -> None:
    snapshot = taken(tmp_path / "work", day, {"uri": str(night), "weight": 3})
    assert snapshot.result.receipt.scalars["datasets"]["night"] == {
        "images": 4, "train": 2, "val": 1, "test": 1, "repeated": 4
    }  # fmt: skip
    report, converted = through(tmp_path / "work", snapshot)
    assert report.images == 8
    scalars = converted.receipt.scalars
    assert (scalars["images"], scalars["train"], scalars["val"], scalars["test"]) == (8, 8, 2, 2)
    assert (scalars["repeated"], scalars["objects"]) == (4, 12)
    entries = Converted(converted).index()
    assert Counter(entry.file_name for entry in entries if entry.split == "train") == {
        "a.png": 1, "day/b.png": 1, "night/b.png": 3, "night/c.png": 3
    }  # fmt: skip
    assert len({entry.path for entry in entries}) == len(entries)
    cache = view(tmp_path / "work", snapshot, converted, tmp_path / "view")
    assert cache.fetched == 8
    copies = sorted((tmp_path / "view/images/train").rglob("b.png"))
    assert len(copies) == 4
    assert len({path.stat().st_ino for path in copies}) == 2
    for label in (tmp_path / "view/labels/train").rglob("b.txt"):
        assert label.read_text().startswith("1 " if "day" in label.parts else "2 ")


def test_a_weight_below_one_leaves_out_train_images_by_the_hash_of_their_names(tmp_path: Path, night: Path) -> None:
    names = [f"{number}.png" for number in range(40)]
    many = coloured(tmp_path / "many", names, ["car"], 0)
    snapshot = taken(tmp_path / "work", night, {"uri": str(many), "weight": 0.25})
    left = {row.file_name for row in snapshot.rows if row.key.startswith("many/")}
    train = names[:-2]
    assert left == {*names[-2:], *(name for name in train if fraction(f"weight:{name}") < 0.25)}
    assert snapshot.result.receipt.scalars["datasets"]["many"]["left_out"] == 40 - len(left)
    _, converted = through(tmp_path / "work", snapshot)
    assert converted.receipt.scalars["train"] == len(left) - 2 + 2
    assert "repeated" not in converted.receipt.scalars
    same = coloured(tmp_path / "same", names, ["car"], 100)
    beside = taken(tmp_path / "work", same, {"uri": str(many), "weight": 0.25})
    assert {row.file_name for row in beside.rows if row.key.startswith("many/")} == {f"many/{name}" for name in left}


def test_a_weight_of_two_and_a_half_repeats_some_once_more(tmp_path: Path, night: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    many = coloured(tmp_path / "many", names, ["car"], 0)
    snapshot = taken(tmp_path / "work", {"uri": str(many), "weight": 2.5})
    repeats = dict(zip(snapshot.table["file_name"].to_pylist(), snapshot.repeats.tolist(), strict=True))
    expected = {name: 2 + (fraction(f"weight:{name}") < 0.5) for name in names[:-2]}
    assert repeats == expected | dict.fromkeys(names[-2:], 1)


def test_a_weight_changes_what_is_trained_and_so_the_digest(tmp_path: Path, day: Path, night: Path) -> None:
    plain = taken(tmp_path / "work", day, night)
    heavy = taken(tmp_path / "work", day, {"uri": str(night), "weight": 2})
    light = taken(tmp_path / "work", day, {"uri": str(night), "weight": 0.5})
    assert len({plain.id, heavy.id, light.id}) == 3
    assert plain.identity.dataset_hash == heavy.identity.dataset_hash != light.identity.dataset_hash


def test_what_a_weight_does_is_told(tmp_path: Path, day: Path, night: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held_out = coloured(tmp_path / "held", ["y.png", "z.png"], ["car"], 50)
    taken(
        tmp_path / "work",
        {"uri": str(day), "weight": 0.5},
        {"uri": str(night), "weight": 2.5},
        {"uri": str(held_out), "weight": 9},
    )
    stderr = capfd.readouterr().err
    assert "day: its weight 0.5 leaves out 1, of 2 train images." in stderr
    assert (
        "night: its weight 2.5 repeats 2 (2 more in all), of 2 train images." in stderr or "(3 more in all)" in stderr
    )
    assert "held: its weight 9 changes none, of 0 train images." in stderr
    assert "2 file names are in several datasets (b.png, c.png); there they begin" in stderr


def test_weights_that_leave_nothing_to_train_are_refused(tmp_path: Path, day: Path) -> None:
    with pytest.raises(InvalidDataset, match="the weights leave out all 2 train images"):
        taken(tmp_path / "work", {"uri": str(day), "weight": 1e-9})


@pytest.mark.parametrize("weight", [1, 2, 0.5])
def test_a_change_in_either_dataset_is_refused_by_validate(
    tmp_path: Path, day: Path, night: Path, weight: float
) -> None:
    snapshot = taken(tmp_path / "work", day, {"uri": str(night), "weight": weight})
    stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)
    images = document(day)["images"]
    images[3]["annotations"][0]["bbox"] = [1, 1, 9, 9]
    rewrite(day, images=images)
    with pytest.raises(DatasetChanged, match="1 image with changed annotations"):
        stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)


def test_an_earlier_snapshot_of_several_is_used_again_as_long_as_its_images_lie_there(
    tmp_path: Path, day: Path, night: Path
) -> None:
    snapshot = taken(tmp_path / "work", day, night)
    again = stage("snapshot", tmp_path / "work", snapshot=snapshot.id)
    assert again.uri == snapshot.result.uri
    picture(night, "c.png", 200)
    with pytest.raises(DatasetChanged, match=r"night/images/c\.png changed"):
        stage("snapshot", tmp_path / "work", snapshot=snapshot.id)
    (night / "images/c.png").unlink()
    with pytest.raises(DatasetChanged, match=r"night/images/c\.png is gone"):
        stage("snapshot", tmp_path / "work", snapshot=snapshot.id)


def test_an_image_that_changed_is_named_with_its_own_uri(tmp_path: Path, day: Path, night: Path) -> None:
    snapshot = taken(tmp_path / "work", day, night)
    picture(night, "c.png", 200)
    with pytest.raises(DatasetChanged, match=f"{night.as_uri()}/images/c.png"):
        stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)


def test_datasets_in_two_formats_are_one(tmp_path: Path, day: Path) -> None:
    yolo = tmp_path / "yolo"
    for split in ("train", "val"):
        (yolo / "images" / split).mkdir(parents=True)
        (yolo / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (32, 32), (9, 99, len(split))).save(yolo / "images" / split / "z.png")
        (yolo / "labels" / split / "z.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (yolo / "labels/train/z.txt").write_text("1 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n")
    (yolo / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [bus, car]\n")
    snapshot = taken(tmp_path / "work", day, yolo)
    assert {part.format for part in snapshot.annotations.parts} == {"dice", "yolo"}
    with pytest.raises(InvalidDataset) as refused:
        stage("validate", tmp_path / "work", snapshot=snapshot.result.uri)
    assert str(refused.value).startswith("yolo/labels/train/z.txt: ")
    (yolo / "labels/train/z.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    report, converted = through(tmp_path / "work", taken(tmp_path / "work", day, yolo), mode="full")
    of_image = [finding.sentence for finding in report.findings if finding.code == "blank_image"]
    assert [text.partition(":")[0] for text in of_image] == ["day/annotations_detection.json"] * 4 + [
        "yolo/data.yaml"
    ] * 2
    assert Converted(converted).classes == ("car", "van", "bus")


def test_tasks_that_differ_are_refused_with_both_datasets(tmp_path: Path, day: Path) -> None:
    pose = dataset(tmp_path / "people", "pose", None)
    with pytest.raises(InvalidDataset) as refused:
        taken(tmp_path / "work", day, pose)
    assert f"{day.as_uri()} is for detection and {pose.as_uri()} for pose" in str(refused.value)


KEYPOINTS = {"id": 0, "name": "thing", "keypoints": ["left", "right"], "flip_pairs": [[0, 1]]}


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"keypoints": ["left", "nose"]}, 'keypoint 1 is "right" in one and "nose" in the other'),
        ({"keypoints": ["left", "right", "nose"]}, "2 keypoints in one and 3 in the other"),
        ({"flip_pairs": []}, "the flip pairs are [[0, 1]] in one and [] in the other"),
        ({"name": "other", "keypoints": ["a", "b", "c"], "flip_pairs": None}, "has 2 keypoints and"),
    ],
)
def test_two_datasets_for_pose_with_other_keypoints_are_refused(
    tmp_path: Path, other: dict[str, Any], differs: str
) -> None:
    first = dataset(tmp_path / "first", "pose", [POSE], classes=[KEYPOINTS])
    second = dataset(tmp_path / "second", "pose", [POSE], classes=[KEYPOINTS | other])
    with pytest.raises(InvalidDataset) as refused:
        taken(tmp_path / "work", first, second)
    assert differs in str(refused.value)
    assert first.as_uri() in str(refused.value)
    assert second.as_uri() in str(refused.value)
    same = dataset(tmp_path / "same", "pose", [POSE], classes=[KEYPOINTS])
    assert len(taken(tmp_path / "work", first, same).rows) == 8


def test_a_dataset_that_does_not_exist_is_named(tmp_path: Path, day: Path) -> None:
    with pytest.raises(DatasetNotFound, match=(tmp_path / "nowhere").as_uri()):
        taken(tmp_path / "work", day, tmp_path / "nowhere")


def test_what_is_wrong_with_one_dataset_names_it(tmp_path: Path, day: Path, night: Path) -> None:
    (night / FILE.format("detection")).write_text("{")
    with pytest.raises(VisionloopError, match=night.as_uri()):
        taken(tmp_path / "work", day, night)
    (night / "metadata.json").write_text("[")
    with pytest.raises(VisionloopError, match=night.as_uri()):
        taken(tmp_path / "work", day, night)


def test_a_clash_that_the_name_does_not_end_is_refused(tmp_path: Path, day: Path) -> None:
    other = coloured(tmp_path / "other", ["a.png", "day/a.png", "y.png", "z.png"], ["car"], 100)
    with pytest.raises(InvalidDataset, match=r'two images are "day/a\.png", even with the name') as refused:
        taken(tmp_path / "work", day, other)
    assert day.as_uri() in str(refused.value)
    assert len(taken(tmp_path / "work", {"uri": str(day), "name": "noon"}, other).rows) == 8


def test_classes_that_differ_in_case_or_form_alone_are_told(tmp_path: Path, day: Path, capfd: Any) -> None:
    other = coloured(tmp_path / "other", ["g.png", "h.png", "i.png"], ["Car "], 50)
    snapshot = taken(tmp_path / "work", day, other)
    assert len(snapshot.annotations.classes) == 3
    assert any("are classes of their own" in notice for notice in snapshot.annotations.notices)


def test_a_workspace_may_lie_in_none_of_them(tmp_path: Path, day: Path, night: Path) -> None:
    with pytest.raises(InvalidConfig, match="a dataset is only read"):
        run_stage(catalog.stage("snapshot"), {"dataset": [str(day), str(night)]}, Invocation(str(night / "work")))


def test_commands_of_snapshots_read_each_image_in_its_own_dataset(
    tmp_path: Path, day: Path, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = str(tmp_path / "work")
    before = taken(tmp_path / "work", day, night)
    picture(night, "c.png", 250)
    images = document(night)["images"]
    images[1]["annotations"][0]["bbox"] = [1, 1, 20, 20]
    rewrite(night, images=images)
    after = taken(tmp_path / "work", day, {"uri": str(night), "weight": 2})
    result = difference.difference(before, after)
    assert result.changed["bytes"].to_pylist() == result.changed["labels"].to_pylist() == ["night/c.png"]
    assert "The weights of the datasets repeat other images of train." in result.notices
    described = difference.as_json(before, after, result)["after"]
    assert described["datasets"] == [
        {"uri": day.as_uri(), "name": "day"}, {"uri": night.as_uri(), "name": "night", "weight": 2}
    ]  # fmt: skip
    page = render(before, after, result, workspace).decode()
    assert page.count("changed since") == 2
    shown = details(open_prefix(workspace, "results"), after)
    assert shown["datasets"][1] == {
        "uri": night.as_uri(), "name": "night", "weight": 2, "images": 4, "train": 2, "val": 1, "test": 1, "repeated": 2
    }  # fmt: skip
    assert dataset_sentence(shown["datasets"][1]) == (
        f"night ({night.as_uri()}): 4 images, weight 2, 2 repetitions in train"
    )
    assert shown["dataset"] == f"{day.as_uri()} and {night.as_uri()}"
    report = stage("validate", tmp_path / "work", snapshot=after.result.uri)
    assert b"4 images, weight 2, 2 repetitions in train" in report.read("page")
    written = exported(after, workspace, str(tmp_path / "out"), "dice", tmp_path)
    assert "2 repetitions of train images are not written: a weight is of the run that named it." in written["notices"]
    assert (written["images"], written["source"]) == (8, f"{day.as_uri()} and {night.as_uri()}")
    assert (tmp_path / "out/images/night/c.png").read_bytes() == (night / "images/c.png").read_bytes()
    assert len(taken(tmp_path / "work", tmp_path / "out").rows) == 8
    with pytest.raises(InvalidConfig, match="is inside"):
        exported(after, workspace, str(night / "out"), "dice", tmp_path)


def test_snapshots_of_several_datasets_are_listed_and_deleted(
    tmp_path: Path, day: Path, night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = taken(tmp_path / "work", day, {"uri": str(night), "weight": 0.5})
    for words in (["list"], ["show", snapshot.id], ["delete", snapshot.id]):
        command = ["snapshot", *words, "--workspace", str(tmp_path / "work"), "--output", "text"]
        application(["snapshot"])(command, standalone_mode=False)
        out = " ".join(capsys.readouterr().out.split())
        if words[0] == "show":
            assert f"Dataset day ({day.as_uri()}): 4 images" in out
            assert f"Dataset night ({night.as_uri()}): " in out
            assert "weight 0.5" in out


def test_a_classification_is_repeated_in_the_folder_of_its_class(tmp_path: Path) -> None:
    first = dataset(tmp_path / "first", "classification", None)
    second = dataset(tmp_path / "second", "classification", None, classes=[{"id": 0, "name": "other"}])
    for number in range(4):
        picture(second, f"{number}.png", 100 + number)
    snapshot = taken(tmp_path / "work", first, {"uri": str(second), "weight": 2})
    _, converted = through(tmp_path / "work", snapshot)
    paths = [entry.path for entry in Converted(converted).index() if entry.file_name == "second/0.png"]
    assert paths == ["train/00001_other/second/0.png", "train/00001_other/again/2/second/0.png"]
    view(tmp_path / "work", snapshot, converted, tmp_path / "view")
    assert (tmp_path / "view" / paths[1]).read_bytes() == (second / "images/0.png").read_bytes()


def test_a_folder_named_again_of_the_dataset_stays_its_own(tmp_path: Path, night: Path) -> None:
    names = ["Again/2/b.png", "b.png", "y.png", "z.png"]
    other = coloured(tmp_path / "other", names, ["car"], 30)
    snapshot = taken(tmp_path / "work", {"uri": str(other), "weight": 2})
    _, converted = through(tmp_path / "work", snapshot)
    entries = Converted(converted).index()
    assert len({entry.path.casefold() for entry in entries}) == len(entries) == 6
    assert {entry.path for entry in entries if entry.file_name == "b.png"} == {
        "images/train/b.png",
        "images/train/again-/2/b.png",
    }


@pytest.mark.usefixtures("s3_environment")
def test_datasets_in_two_buckets_and_in_a_folder_are_read(tmp_path: Path, day: Path, night: Path) -> None:
    results = [open_prefix(uri, "dataset") for uri in IN_STORE]
    for prefix, folder in zip(results, (day, night), strict=True):
        for path in sorted(folder.rglob("*.*")):
            prefix.write(path.relative_to(folder).as_posix(), path.read_bytes())
    snapshot = Snapshot(stage("snapshot", tmp_path / "work", dataset=json.dumps(IN_STORE)))
    assert len({row.etag for row in snapshot.rows}) == 8
    _, converted = through(tmp_path / "work", snapshot, mode="full")
    view(tmp_path / "work", snapshot, converted, tmp_path / "view")
    assert (tmp_path / "view/images/train/night/b.png").read_bytes() == (night / "images/b.png").read_bytes()
    mixed = taken(tmp_path / "work", day, {"uri": IN_STORE[1]})
    _, converted = through(tmp_path / "work", mixed)
    view(tmp_path / "work", mixed, converted, tmp_path / "mixed")
    assert (tmp_path / "mixed/images/test/d.png").read_bytes() == (day / "images/d.png").read_bytes()
    results[1].write("images/c.png", (day / "images/a.png").read_bytes())
    with pytest.raises(DatasetChanged, match=r"night/images/c\.png"):
        stage("validate", tmp_path / "work", snapshot=mixed.result.uri, mode="full")
