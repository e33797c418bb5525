"""The commands of docs/choosing.md run on a dataset as the page has it, and give what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from PIL import Image

from visionloop.pipelines.cli.main import application

PAGE = (ROOT / "docs/choosing.md").read_text(encoding="utf-8")
CLASSES = ("car", "van", "lorry", "bike", "shadow", "crowd of people")
CAMERAS, FRAMES = 6, 8


def commands() -> Iterator[list[str]]:
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line.removeprefix("$ "))


LOOKING = [words[1:] for words in commands() if words[1] == "stage"]
TRAINING = [words[1:] for words in commands() if words[1] == "run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's dataset and its file of classes."""
    folder = tmp_path_factory.mktemp("choosing")
    images = []
    for camera in range(1, CAMERAS + 1):
        (folder / f"traffic/images/cam{camera}").mkdir(parents=True)
        for frame in range(FRAMES):
            name = f"cam{camera}/{frame:04d}.png"
            Image.new("RGB", (640, 96), (40 * camera, 25 * frame, 90)).save(folder / "traffic/images" / name)
            labels = [
                {
                    "class_id": number,
                    "bbox": [70 * number + 5, 10, 6 + 4 * number, 40],
                    "attributes": {"occluded": frame % 2 == 0},
                }
                for number in range(len(CLASSES))
            ]
            image = {
                "file_name": name,
                "width": 640,
                "height": 96,
                "split": ("train", "val", "test", "train")[frame % 4],
            }
            image["metadata"] = {"source": "night" if frame < 5 else "day", "taken": f"2026-0{2 + frame % 3}-1{camera}"}
            images.append(image | {"annotations": labels})
    classes = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    document = {"format_version": "1.0", "task_type": "detection", "classes": classes, "images": images}
    (folder / "traffic/annotations_detection.json").write_text(json.dumps(document))
    for name, year in (("vans", 2020), ("dusk", 2021)):
        beside(folder / name, document | {"classes": [{"id": 3, "name": "van"}, {"id": 5, "name": "car"}]}, year)
    (mapping,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "classes.yaml").write_text(mapping)
    return folder


def beside(folder: Path, document: dict[str, Any], year: int) -> None:
    """Another dataset of the page: a car and a van in four images, one of which has the name of one of ``traffic``."""
    images = []
    for number, split in enumerate(("train", "train", "val", "test")):
        name = f"cam1/{number if number == 0 else year + number:04d}.png"
        (folder / "images/cam1").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 96), (year % 100, 60 * number, 10)).save(folder / "images" / name)
        labels = [{"class_id": class_id, "bbox": [9 * class_id, 9, 30, 40]} for class_id in (3, 5)]
        images.append({"file_name": name, "width": 640, "height": 96, "split": split, "annotations": labels})
    (folder / "annotations_detection.json").write_text(json.dumps(document | {"images": images}))


def run(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The JSON that a stage prints."""
    monkeypatch.chdir(folder)
    application(words)(words, standalone_mode=False)
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


#: What each command gives, in the order of the page.
GIVEN: list[dict[str, Any]] = [
    {"images": 48, "classes": 6},
    {"images": 30, "classes": 6},
    {"images": 42, "classes": 6},
    {"images": 8, "classes": 6},
    {"images": 48, "classes": 6},
    {"images": 48, "classes": 3},
    {"images": 48, "classes": 1},
    {"images": 48},
    {"images": 48},
    {"images": 48, "train": 18, "val": 18, "test": 12},
    {"images": 48},
    {"images": 52, "classes": 6, "train": 26, "val": 13, "test": 13},
    {"images": 56, "classes": 6, "train": 28, "val": 14, "test": 14},
    {"images": 50, "classes": 6, "train": 24, "val": 13, "test": 13},
]


@pytest.mark.parametrize("number", range(len(LOOKING)))
def test_a_command_gives_what_the_page_says(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(LOOKING) == len(GIVEN)
    result = run(folder, LOOKING[number], monkeypatch, capsys)
    assert {name: result[name] for name in GIVEN[number]} == GIVEN[number]
    assert all(result[split] for split in ("train", "val", "test"))


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_training_of_the_page_runs(folder: Path, tmp_path: Path) -> None:
    (words,) = TRAINING
    short = [word.replace("epochs=20", "epochs=1") for word in words]
    environment = os.environ | {"VISIONLOOP_HOME": str(tmp_path / "home")}
    code = "from visionloop.pipelines.cli import main; main()"
    gate = ["--gate", '{"floor": 0}', "--output", "json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *short, *gate],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["stages"]["convert"]["receipt"]
