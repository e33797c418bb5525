"""``visionloop snapshot diff``: what changed between two snapshots, as text and JSON."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_datasets import BOX, dataset, stage
from snapshot_commands import RELEASED, command, taken


def edited(folder: Path, **images: dict[str, Any]) -> Path:
    """The dataset with other fields of the images of these numbers."""
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    for name, fields in images.items():
        document["images"][int(name.removeprefix("image"))] |= fields
    path.write_text(json.dumps(document))
    return folder


def changed(folder: Path) -> Path:
    """A dataset after work on it: an image more, one less, other labels, another split, other bytes, a class more."""
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / "images" / "new.png")
    Image.new("RGB", (32, 32), (7, 7, 7)).save(folder / "images" / "1.png")
    document["classes"].append({"id": 1, "name": "other"})
    first, second, third, _ = document["images"]
    first["annotations"] = [BOX | {"bbox": [5, 4, 8, 8]}, BOX | {"class_id": 1, "bbox": [20, 20, 5, 5]}]
    third["split"] = "train"
    new = second | {"file_name": "new.png", "split": "val"}
    document["images"] = [first, second, third, new]
    path.write_text(json.dumps(document))
    return folder


def test_what_changed_as_json_and_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    before, after = taken(source, workspace), taken(changed(source), workspace, split="test=val")
    code, out, sentence = command(capsys, "diff", before, after, "--workspace", workspace)
    assert (code, sentence) == (0, "")
    result = json.loads(out)
    assert {kind: entry["file_names"] for kind, entry in result["images"].items()} == {
        "added": ["new.png"],
        "removed": ["3.png"],
        "labels": ["0.png"],
        "bytes": ["1.png"],
        "picture_size": [],
        "split": ["2.png"],
        "stated_split": ["2.png"],
    }
    assert result["moves"] == [{"before": "val", "after": "train", "images": 1}]
    assert result["classes"] == [
        {"name": "thing", "was": None, "change": None, "before": 4, "after": 4},
        {"name": "other", "was": None, "change": "added", "before": None, "after": 1},
    ]
    assert [(measure["measure"], measure["drifted"]) for measure in result["drift"]] == [
        ("classes", False),
        ("box sizes", False),
    ]
    assert (result["differs"], result["before"]["id"], result["after"]["id"]) == (True, before, after)
    code, out, _ = command(capsys, "diff", before, after, "--workspace", workspace, "--output", "text")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"Before   {before}: 4 images (train 2, val 1, test 1), 4 objects, {source.as_uri()}"
    assert lines[2:9] == [
        "Images   1 added: new.png",
        "Images   1 removed: 3.png",
        "Images   1 with other labels: 0.png",
        "Images   1 with other bytes: 1.png",
        "Images   1 with another split: 2.png",
        "Images   1 with another stated split: 2.png",
        "Split    1 from val to train",
    ]
    assert lines[9] == "Class    other added, objects 1"


def test_a_snapshot_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    code, out, _ = command(capsys, "diff", identity, identity, "--workspace", workspace, "--output", "text")
    assert (code, "Nothing  differs in images and classes." in out) == (0, True)
    code, out, _ = command(capsys, "diff", identity, identity, "--workspace", workspace)
    assert json.loads(out)["differs"] is False


def test_brightness_is_measured_where_both_were_validated_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, work = dataset(tmp_path / "data", "detection", None), tmp_path / "work"
    before = taken(folder, work)
    for name in ("0.png", "1.png", "2.png", "3.png"):
        Image.new("RGB", (32, 32), (250 + int(name[0]), 250, 250)).save(folder / "images" / name)
    after = taken(folder, work)
    _, text, _ = command(capsys, "diff", before, after, "--workspace", work, "--output", "text")
    unseen = (
        "Drift    -    brightness is not measured: not both were validated in the mode full, which reads the pixels\n"
    )
    assert unseen in text
    stage("validate", work, snapshot=stage("snapshot", work, snapshot=after).uri, mode="full")
    assert unseen in command(capsys, "diff", before, after, "--workspace", work, "--output", "text")[1]
    # The earlier dataset as it was: its images are checked against what was frozen.
    for number in range(4):
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(folder / "images" / f"{number}.png")
    stage("validate", work, snapshot=stage("snapshot", work, snapshot=before).uri, mode="full")
    _, text, _ = command(capsys, "diff", before, after, "--workspace", work, "--output", "text")
    (line,) = [line for line in text.splitlines() if line.startswith("Drift") and "brightness" in line]
    assert line.startswith("Drift    no   brightness 1 apart: "), line  # four images are too few to call it drift
    _, printed, _ = command(capsys, "diff", before, after, "--workspace", work, "--output", "json")
    assert json.loads(printed)["not_measured"] == {}


def test_another_rule_that_splits_alike_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    rule = "train=0.5,val=0.25,test=0.25,seed="
    first = taken(source, workspace, split=f"{rule}0")
    splits = json.loads(command(capsys, "show", first, "--workspace", workspace)[1])["splits"]
    others = (taken(source, workspace, split=f"{rule}{seed}") for seed in range(1, 100))
    for other in others:
        result = json.loads(command(capsys, "diff", first, other, "--workspace", workspace)[1])
        if not result["images"]["split"]["count"]:
            break
    assert result["after"]["splits"] == splits
    assert (result["differs"], result["notices"]) == (
        False,
        ["The splits have other rules and give each image the same."],
    )


def test_a_snapshot_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    code, out, sentence = command(capsys, "diff", identity, "snap_0123456789ab", "--workspace", workspace)
    assert (code, out) == (78, "")
    assert sentence == f"{workspace.as_uri()} holds no snapshot 'snap_0123456789ab'; it has {identity}."


def test_a_released_snapshot_of_the_first_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its workspace was moved out of its store, and its manifest has no digests of the images."""
    with tarfile.open(RELEASED) as archive:
        archive.extractall(tmp_path, filter="data")
    workspace, source = tmp_path / "workspace", tmp_path / "dataset"
    (old,) = json.loads(command(capsys, "list", "--workspace", workspace)[1])["snapshots"]
    assert (old["format"], old["dataset"]) == ("dice", "s3://datasets/released/0.1.0")
    assert (old["images"] > 0, old["objects"] > 0, old["versions"]) == (True, True, ["tiny-digits/1"])
    path = source / "annotations_detection.json"
    document = json.loads(path.read_text())
    edited_name = document["images"][0]["file_name"]
    document["images"][0]["annotations"] = []
    path.write_text(json.dumps(document))
    new = taken(source, workspace)
    result = json.loads(command(capsys, "diff", old["id"], new, "--workspace", workspace)[1])
    assert result["images"]["labels"] == {"count": 1, "file_names": [edited_name]}
    assert result["images"]["bytes"]["count"] == 0
    assert len(result["notices"]) == 2


def test_names_that_would_act_are_visible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "<b>\u202eevil</b> 2"
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    shutil.copy(source / "images/0.png", source / "images/<i>\u202e.png")
    path = source / "annotations_detection.json"
    document = json.loads(path.read_text())
    before = taken(source, workspace)
    document["classes"].append({"id": 1, "name": hostile})
    document["images"].append(document["images"][0] | {"file_name": "<i>\u202e.png"})
    path.write_text(json.dumps(document))
    after = taken(source, workspace)
    for words in (("diff", before, after), ("show", after)):
        for form in ("text", "json"):
            code, out, _ = command(capsys, *words, "--workspace", workspace, "--output", form)
            assert code == 0
            assert not {"\u202e", "\x1b"} & set(out)
    result = json.loads(command(capsys, "diff", before, after, "--workspace", workspace)[1])
    assert result["classes"][1]["name"] == hostile
    assert result["images"]["added"]["file_names"] == ["<i>\u202e.png"]
    text = command(capsys, "diff", before, after, "--workspace", workspace, "--output", "text")[1]
    assert "Class    <b>\\u202eevil</b> 2 added, objects 0" in text
