"""The commands of docs/comparing.md run on a dataset as the page has it, and print what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from documents import ROOT
from PIL import Image

from visionloop.pipelines.cli.main import application

PAGE = (ROOT / "docs/comparing.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line.removeprefix("$ "))[1:] for block in blocks for line in block.splitlines()]


def write(folder: Path) -> None:
    """The dataset as it is at first."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(8):
        Image.new("RGB", (64, 48), (20 * number, 99, 99)).save(folder / f"images/{number}.png")
        labels = [{"class_id": 0, "bbox": [4, 4, 20, 24]}, {"class_id": 1, "bbox": [34, 8, 20, 22]}]
        split = ("train", "train", "train", "train", "val", "val", "test", "test")[number]
        images.append({"file_name": f"{number}.png", "width": 64, "height": 48, "split": split, "annotations": labels})
    classes = [{"id": 0, "name": "bottle"}, {"id": 1, "name": "can"}]
    document = {"format_version": "1.0", "task_type": "detection", "classes": classes, "images": images}
    (folder / "annotations_detection.json").write_text(json.dumps(document))


def work_on(folder: Path) -> None:
    """What people did to it."""
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    images = document["images"]
    document["classes"].append({"id": 2, "name": "crate"})
    images[0]["annotations"][0]["bbox"] = [6, 5, 20, 24]
    images[1]["annotations"][0]["class_id"] = 2
    Image.new("RGB", (64, 48), (1, 1, 1)).save(folder / "images/2.png")
    images[3]["split"] = "val"
    Image.new("RGB", (64, 48), (2, 2, 2)).save(folder / "images/8.png")
    images[7] |= {"file_name": "8.png"}
    (folder / "images/7.png").unlink()
    path.write_text(json.dumps(document))


def test_the_commands_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bottles")
    ids: list[str] = []
    printed = {}

    def run(words: list[str]) -> str:
        names = dict(zip(("BEFORE", "AFTER"), ids, strict=False))
        arguments = [names.get(word, word) for word in words]
        text = ["--output", "text"] if words[0] == "snapshot" else []
        application(arguments)([*arguments, *text], standalone_mode=False)
        return capsys.readouterr().out

    for words in commands():
        if ids and words[0] == "stage":
            work_on(tmp_path / "bottles")
        out = run(words)
        if words[0] == "stage":
            ids.append(json.loads(out.splitlines()[-1])["snapshot_id"])
        printed[" ".join(words)] = out
    assert len(set(ids)) == 2
    (example,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    shown = printed["snapshot diff BEFORE AFTER --workspace work"]
    for name, value in (("BEFORE", ids[0]), ("AFTER", ids[1]), ("BOTTLES", (tmp_path / "bottles").as_uri())):
        shown = shown.replace(value, name)
    assert shown == example
    assert "<h1" in (tmp_path / "difference.html").read_text()
    assert printed["snapshot delete BEFORE --workspace work"].startswith(f"{ids[0]} is deleted: ")
    assert [line.split()[0] for line in run(["snapshot", "list", "--workspace", "work"]).splitlines()[1:]] == [ids[1]]
