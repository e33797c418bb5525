"""The commands of docs/predict.md run on a model and images as the page has them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from untrained import photograph, register

from visionloop.components.predict import images, pictures
from visionloop.core.stores import local_path
from visionloop.data.headers import IMAGE_EXTENSIONS
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.engines import Engine, Order
from visionloop.pipelines.engines.cluster import ClusterEngine
from visionloop.pipelines.engines.laptop import Laptop
from visionloop.registry import Registry

PAGE = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.slow
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
        if words[0] == "run" or any(word.startswith("s3://") for word in words):
            continue  # tests/registry/test_predict.py reads from a store
        application(words)(words, standalone_mode=False)
        printed = json.loads(capfd.readouterr().out)["predictions"]
        assert [entry["image"] for entry in printed] == sorted(names, reverse=words[2:] == [names[1], "photos/more"])
        assert {(entry["width"], entry["height"]) for entry in printed} == {(96, 64)}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.jpg", "shelf.jpg"}


RUNS = [words for words in COMMANDS if words[0] == "run"]


@pytest.mark.matrix  # tests/local/test_run_predict.py runs it too
def test_the_run_on_a_folder_ends_as_the_page_shows_it(
    mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{mlflow_database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "registered").mkdir()
    register(Registry({"MLFLOW_TRACKING_URI": uri}), "torchvision", "detection", "bottles", tmp_path / "registered")
    photograph(tmp_path / "photos/a.jpg")
    words = [*RUNS[0], "--output", "text"]
    application(words)(words, standalone_mode=False)
    printed = capfd.readouterr().out
    (shown,) = (text for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) if text.startswith("Model"))
    for line in shown.splitlines():
        assert re.search(rf"^{line.split()[0]} ", printed, re.MULTILINE), line
    results = re.search(r"^Results +(.*)$", printed, re.MULTILINE)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {"results": local_path(results[1])} if results else {}
    exec(code, scope)
    assert set(scope["found"]["file_name"].to_pylist()) == {"a.jpg"}


def test_the_runs_on_stores_and_engines_have_options_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []

    def take(engine: Engine, order: Order) -> dict[str, Any]:
        orders.append(order)
        return {"name": "x", "engine": engine.name}

    for engine in (Laptop, ClusterEngine):
        monkeypatch.setattr(engine, "run", take)
    for words in RUNS[1:]:
        application(words)(words, standalone_mode=False)
    assert [order.pipeline for order in orders] == ["predict", "predict"]
    assert [order.arguments.get("write") for order in orders] == ["coco,dice", None]
    assert orders[1].arguments["trainer"] == "torchvision"


def test_the_example_has_the_fields_that_are_printed() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (entry,) = json.loads(example)["predictions"]
    assert list(entry) == ["image", "width", "height", "predictions"]
    assert list(entry["predictions"][0]) == ["class", "class_index", "confidence", "box"]


def test_the_page_tells_the_limits() -> None:
    assert ", ".join(f"`{extension}`" for extension in sorted(IMAGE_EXTENSIONS)) in PAGE
    assert images.MAX_BYTES == 2**30
    assert f"at most {pictures.LONGEST:,} pixels" in PAGE
