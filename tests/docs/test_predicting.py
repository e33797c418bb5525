"""The commands of docs/predict.md run on a model and images as the page has them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from documents import ROOT
from untrained import photograph, register

from visionloop.data.headers import IMAGE_EXTENSIONS
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.predicting import images, pictures
from visionloop.registry import Registry

PAGE = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_the_commands_print_what_the_model_finds(
    mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    registry = Registry({"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"})
    register(registry, "torchvision", "detection", "bottles", tmp_path)
    names = ["photos/more/a.jpg", "photos/shelf.jpg"]
    for name in names:
        photograph(tmp_path / name)
    for words in COMMANDS:
        if any(word.startswith("s3://") for word in words):
            continue  # tests/registry/test_predict.py reads from a store
        application(words)(words, standalone_mode=False)
        printed = json.loads(capfd.readouterr().out)["predictions"]
        assert [entry["image"] for entry in printed] == sorted(names, reverse=words[2:] == [names[1], "photos/more"])
        assert {(entry["width"], entry["height"]) for entry in printed} == {(96, 64)}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.jpg", "shelf.jpg"}


def test_the_example_has_the_fields_that_are_printed() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (entry,) = json.loads(example)["predictions"]
    assert list(entry) == ["image", "width", "height", "predictions"]
    assert list(entry["predictions"][0]) == ["class", "class_index", "confidence", "box"]


def test_the_page_tells_the_limits() -> None:
    assert ", ".join(f"`{extension}`" for extension in sorted(IMAGE_EXTENSIONS)) in PAGE
    assert images.MAX_BYTES == 2**30
    assert f"at most {pictures.LONGEST:,} pixels" in PAGE
