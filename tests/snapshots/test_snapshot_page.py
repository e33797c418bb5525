"""The page of a difference: counts of all, examples before and after, and what became of each object drawn apart."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from small_datasets import BOX, LABELS, dataset
from snapshot_commands import RELEASED, command, taken

from visionloop.core.reports import MOST_BYTES
from visionloop.pipelines.snapshots.page import EXAMPLES, GONE, MOVED, NEW, RECLASSED

PICTURES = re.compile(r'<img src="data:image/jpeg;base64,([^"]*)"')


def edited(folder: Path, change: Any, task: str = "detection") -> Path:
    """The dataset after a change of its document."""
    path = folder / f"annotations_{task}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def page(capsys: pytest.CaptureFixture[str], tmp_path: Path, before: str, after: str, workspace: Path) -> str:
    target = tmp_path / "diff.html"
    code, out, sentence = command(capsys, "diff", before, after, "--workspace", workspace, "--page", target)
    assert (code, sentence) == (0, "")
    assert json.loads(out)["page"] == str(target)
    text = target.read_text()
    assert len(text.encode()) <= MOST_BYTES
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    return text


def sections(text: str) -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"<h2>(.*?)</h2>", text, flags=re.DOTALL)
    return {re.sub(r"<[^>]*>", "", head).strip(): body for head, body in zip(parts[1::2], parts[2::2], strict=True)}


def shows(source: str, colour: str) -> bool:
    """Whether a picture has lines of a colour."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")).astype(int)
    return bool((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=2) < 40).any())


def test_each_kind_has_its_examples_and_what_became_of_objects_is_drawn_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = [BOX | {"bbox": box} for box in ([2, 2, 8, 8], [20, 2, 8, 8], [2, 20, 8, 8], [20, 20, 8, 8])]
    source, workspace = dataset(tmp_path / "set", "detection", boxes), tmp_path / "work"
    edited(source, lambda document: document["classes"].append({"id": 1, "name": "other"}))
    before = taken(source, workspace)
    Image.new("RGB", (32, 32), (1, 2, 3)).save(source / "images/1.png")
    Image.new("RGB", (32, 32), (1, 2, 3)).save(source / "images/new.png")
    (source / "images/3.png").unlink()

    def change(document: dict[str, Any]) -> None:
        first, second, third, _ = document["images"]
        # The first stays, the second moves, the third takes another class, the fourth goes, and one comes.
        moved, reclassed = BOX | {"bbox": [22, 3, 8, 8]}, boxes[2] | {"class_id": 1}
        first["annotations"] = [boxes[0], moved, reclassed, BOX | {"bbox": [12, 12, 3, 3]}]
        third["split"] = "test"
        document["images"] = [first, second, third, second | {"file_name": "new.png", "split": "val"}]

    after = taken(edited(source, change), workspace)
    text = page(capsys, tmp_path, before, after, workspace)
    assert "<h1" in text
    assert "5 images differ" in text
    result = sections(text)
    assert list(result) == [
        "What both hold",
        "Drift",
        "Objects by class",
        "Images with other labels 1",
        "Images with other bytes 1",
        "Images added 1",
        "Images removed 1",
        "Images with another split 1",
    ]
    old, new = PICTURES.findall(result["Images with other labels 1"])
    assert [shows(old, colour) for colour, _ in (GONE, NEW, MOVED, RECLASSED)] == [True, False, True, True]
    assert [shows(new, colour) for colour, _ in (GONE, NEW, MOVED, RECLASSED)] == [False, True, True, True]
    assert "only before (-) 1" in re.sub(r"<[^>]*>", "", result["Images with other labels 1"])
    assert "thing → other" in result["Images with other labels 1"]
    assert len(PICTURES.findall(result["Images with other bytes 1"])) == 1
    assert "before: changed since" in result["Images with other bytes 1"]
    assert "gone since" in result["Images removed 1"]
    assert "val → test" in result["Images with another split 1"]
    assert "1 image went from val to test." in result["What both hold"]


def test_all_are_counted_and_some_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    before = taken(source, workspace)
    for number in range(EXAMPLES + 5):
        shutil.copy(source / "images/0.png", source / f"images/more-{number:02}.png")

    def change(document: dict[str, Any]) -> None:
        first = document["images"][0]
        document["images"] += [first | {"file_name": f"more-{number:02}.png"} for number in range(EXAMPLES + 5)]

    text = page(capsys, tmp_path, before, taken(edited(source, change), workspace), workspace)
    added = sections(text)[f"Images added {EXAMPLES + 5}"]
    assert len(PICTURES.findall(added)) == EXAMPLES
    assert "5 more of this kind" in added


@pytest.mark.parametrize("task", LABELS)
def test_each_task_has_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str) -> None:
    source, workspace = dataset(tmp_path / "set", task, [LABELS[task]]), tmp_path / "work"
    before = taken(source, workspace)

    def change(document: dict[str, Any]) -> None:
        document["classes"].append({"id": 1, "name": "other"})
        document["images"][0]["annotations"] = [LABELS[task] | {"class_id": 1}]
        document["images"][1]["annotations"] = [LABELS[task] | {"attributes": {"night": True}}]

    text = page(capsys, tmp_path, before, taken(edited(source, change, task), workspace), workspace)
    labels = sections(text)["Images with other labels 2"]
    assert len(PICTURES.findall(labels)) == 4
    assert "attributes alone differ" in labels
    if task == "classification":
        assert "before: thing" in labels
        assert "after: other" in labels


def test_hostile_names_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "<script>alert(1)</script>\u202e" + "x" * 900
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    before = taken(source, workspace)
    name = "<img src=x>\u202e.png"
    shutil.copy(source / "images/0.png", source / "images" / name)

    def change(document: dict[str, Any]) -> None:
        document["classes"] += [{"id": 1, "name": hostile}]
        document["images"].append(document["images"][0] | {"file_name": name})
        document["images"][0]["annotations"] = [BOX | {"class_id": 1}]

    text = page(capsys, tmp_path, before, taken(edited(source, change), workspace), workspace)
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "x" * 200 not in re.sub(r"base64,[^\"]*", "", text)


def test_a_dataset_that_is_not_reached_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference needs no image: that of the store, of whose keys one is missing, is shown without pictures."""
    with tarfile.open(RELEASED) as archive:
        archive.extractall(tmp_path, filter="data")
    workspace = tmp_path / "workspace"
    (old,) = json.loads(command(capsys, "list", "--workspace", workspace)[1])["snapshots"]
    source = edited(tmp_path / "dataset", lambda document: document["images"][0].update(annotations=[]))
    after = taken(source, workspace)
    monkeypatch.setenv("EXTERNAL_S3_ACCESS_KEY", "half of a pair")
    text = page(capsys, tmp_path, old["id"], after, workspace)
    assert text.count("Pictures are missing, because their dataset can't be read: ") == 1
    labels = sections(text)["Images with other labels 1"]
    assert (len(PICTURES.findall(labels)), "before: not read" in labels) == (1, True)


def test_a_page_that_can_not_be_written_is_told_before_anything_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.html").mkdir()
    for target, expected in (
        (tmp_path / "page.pdf", "ends with .html"),
        (tmp_path / "none" / "page.html", "in a folder that exists"),
        (tmp_path / "folder.html", "no file can lie there"),
    ):
        code, out, sentence = command(capsys, "diff", "a", "b", "--workspace", tmp_path, "--page", target)
        assert (code, out, expected in sentence) == (78, "", True)
