"""``visionloop dataset export``: what a snapshot holds, with its splits, and as the same dataset when it is read again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import layouts
import pytest
from small_datasets import dataset, stage
from test_exchange import command, files_of

from visionloop.data.annotations.tables import Annotations


def splits(read: Annotations) -> dict[str, str | None]:
    return {row["file_name"]: row["split"] for row in read.images.to_pylist()}


def taken(folder: Path, workspace: Path, **values: str) -> tuple[str, str]:
    """The id of a snapshot, and its dataset's hash."""
    scalars = stage("snapshot", workspace, dataset=str(folder), **values).receipt.scalars
    return scalars["snapshot_id"], scalars["dataset_hash"]


@pytest.mark.parametrize("name", ["dice", "coco", "yolo"])
def test_what_is_written_is_the_same_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    source, workspace, target = dataset(tmp_path / "set", "detection", None), tmp_path / "work", tmp_path / name
    identity, content = taken(source, workspace)
    code, out, sentence = command(capsys, "export", identity, target, "--format", name, "--workspace", workspace)
    assert (code, sentence) == (0, "")
    result = json.loads(out)
    assert (result["format"], result["images"], result["objects"], result["notices"]) == (name, 4, 4, [])
    assert os.path.samefile(source / "images/0.png", target / "images/0.png")
    assert taken(target, workspace) == (identity, content)


def test_images_are_taken_from_where_they_still_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    identity, _ = taken(source, workspace)
    assert taken(copy, workspace)[0] == identity
    for number, place in enumerate((copy, source)):
        target = tmp_path / f"coco-{number}"
        code, out, sentence = command(capsys, "export", identity, target, "--format", "coco", "--workspace", workspace)
        assert (code, sentence) == (0, "")
        assert json.loads(out)["source"] == place.as_uri()
        shutil.rmtree(place)
    code, _, sentence = command(
        capsys, "export", identity, tmp_path / "x", "--format", "coco", "--workspace", workspace
    )
    assert (code, f"{copy.as_uri()} is no longer what was frozen" in sentence) == (65, True)


@pytest.mark.parametrize(("name", "image"), [("voc", "JPEGImages/{}.png"), ("coco", "images/{}.png")])
def test_the_splits_are_those_that_the_snapshot_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, image: str
) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity, _ = taken(source, workspace, split="train=0.5,val=0.25,test=0.25,seed=3")
    assert command(capsys, "export", identity, tmp_path / name, "--format", name, "--workspace", workspace)[0] == 0
    rows = json.loads((workspace / f"snapshots/{identity}.json").read_text())
    assert len(rows["receipts"]) == 1
    result = splits(layouts.read(tmp_path / name, name))
    assert sorted(filter(None, result.values())) == ["test", "train", "train", "val"]
    stated = {"0.png": "train", "1.png": "train", "2.png": "val", "3.png": "test"}
    assert {name.rpartition("/")[2]: split for name, split in result.items()} != stated


@pytest.mark.parametrize("rule", ["test=val", "val=test"])
def test_images_that_count_for_val_and_test_are_written_for_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    file = source / "annotations_detection.json"
    document = json.loads(file.read_text())
    for image in document["images"][2:]:
        image["split"] = rule.partition("=")[2]
    file.write_text(json.dumps(document))
    identity, _ = taken(source, workspace, split=rule)
    assert command(capsys, "export", identity, tmp_path / "yolo", "--format", "yolo", "--workspace", workspace)[0] == 0
    assert (
        (tmp_path / "yolo/val.txt").read_text()
        == (tmp_path / "yolo/test.txt").read_text()
        == "./images/2.png\n./images/3.png\n"
    )


def test_classification_as_folders_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "classification", None), tmp_path / "work"
    identity, _ = taken(source, workspace)
    code, out, _ = command(capsys, "export", identity, tmp_path / "f", "--format", "folders", "--workspace", workspace)
    assert code == 0
    assert files_of(tmp_path / "f") == [
        "test/thing/3.png", "train/thing/0.png", "train/thing/1.png", "val/thing/2.png"
    ]  # fmt: skip
    assert json.loads(out)["notices"] == [
        "Fewer than two classes have images, and class folders are read as a dataset only from two on."
    ]


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity, _ = taken(source, workspace)

    def refused(snapshot: str, target: str, name: str, place: Path = workspace) -> tuple[int, str]:
        code, _, sentence = command(
            capsys, "export", snapshot, tmp_path / target, "--format", name, "--workspace", place
        )
        assert not (tmp_path / "new").exists()
        return code, sentence

    code, sentence = refused("snap_0123456789ab", "new", "coco")
    assert (code, sentence) == (78, f"{workspace.as_uri()} holds no snapshot 'snap_0123456789ab'; it has {identity}.")
    assert refused("../x", "new", "coco")[0] == 78
    assert refused(identity, "new", "coco", tmp_path / "empty")[1].endswith("; it has none.")
    code, sentence = refused(identity, "new", "cvat")
    assert (code, sentence) == (
        78,
        "--format cvat: no such format is written; choose one of dice, coco, voc, yolo, folders.",
    )
    assert "Class folders hold labels of whole images alone" in refused(identity, "new", "folders")[1]
    assert "/set/new is inside" in refused(identity, "set/new", "coco")[1]
    assert "/work/new is inside" in refused(identity, "work/new", "coco")[1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert "nothing is overwritten" in refused(identity, "full", "coco")[1]
    (source / "images/1.png").write_bytes((source / "images/0.png").read_bytes())
    code, sentence = refused(identity, "new", "coco")
    assert (code, "is no longer what was frozen (images/1.png changed)" in sentence) == (65, True)
