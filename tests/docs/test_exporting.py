"""The commands of docs/export.md write what the page says, and its table has the limits of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from documents import ROOT
from untrained import CLASSES, photograph, register

from visionloop.components.export import comparison, making
from visionloop.pipelines.cli.main import application
from visionloop.registry import Registry
from visionloop.training.pytorch.exporting import OPSET

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if " model export " in line
]


def test_the_commands_write_a_file_that_describes_itself(
    mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    registry = Registry({"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"})
    number = register(registry, "timm", "classification", "bottles", tmp_path).number
    photograph(tmp_path / "photos/a.jpg")
    for words in COMMANDS:
        application(words)(words, standalone_mode=False)
        (report,) = json.loads(capfd.readouterr().out)["exports"]
        ending = "xml" if "openvino" in words else "onnx"
        assert report["file"] == f"exported/bottles-{number}.{ending}"
        assert report["pictures"] == (1 if "photos" in words else making.DRAWN)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code.replace("bottles-1.onnx", f"bottles-{number}.onnx"), {})
    assert str(list(CLASSES)) in capfd.readouterr().out


def test_the_page_has_the_limits_of_the_code() -> None:
    for text in (
        f"| overlap (IoU) of an object's two boxes | {making.LEAST_OVERLAP} at least |",
        f"| difference of a confidence, for each class | {making.MOST_SCORE} at most |",
        f"a mask | {making.MOST_FURTHER} at most |",
        f"The {comparison.MOST} most confident objects",
        f"the first {making.COMPARED} images count",
        f"opset {OPSET}",
    ):
        assert text in PAGE, text
