"""The commands of docs/evaluating.md run on a dataset as the page has it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from documents import ROOT
from PIL import Image

from visionloop.components.evaluate.gate import GateFile
from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.cli.main import application

PAGE = (ROOT / "docs/evaluating.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
PLANS = [words for words in COMMANDS if words[0] == "plan"]
(TRAINING,) = (words for words in COMMANDS if words[:2] == ["run", "train"])
(MEASURING,) = (words for words in COMMANDS if words[:2] == ["run", "evaluate"])
(LIST,) = re.findall(r"```text\n(file_name,.*?)```", PAGE, re.DOTALL)
(GATE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's dataset and gate, where the commands are called."""
    images = []
    for number in range(60):
        path = tmp_path / "bottles/images" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number, 90, 4 * number)).save(path)
        image = {"file_name": path.name, "width": 64, "height": 64, "split": ("train", "val", "test")[number % 3]}
        label = {"class_id": 0, "bbox": [8, 8, 30, 40], "attributes": {"occluded": number % 2 == 0}}
        images.append(image | {"metadata": {"source": "night" if number % 2 else "day"}, "annotations": [label]})
    document = {"format_version": "1.0", "task_type": "detection", "classes": [{"id": 0, "name": "bottle"}]}
    (tmp_path / "bottles/annotations_detection.json").write_text(json.dumps(document | {"images": images}))
    (tmp_path / "gate.yaml").write_text(GATE)
    (tmp_path / "must_pass.csv").write_text(LIST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", PLANS, ids=["gate", "slices", "costs", "must_pass"])
def test_a_plan_takes_what_the_page_asks_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    application(words)(words, standalone_mode=False)
    stages = {stage["stage"]: stage["action"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert stages["evaluate"] == "follows"


def test_a_mistake_in_the_file_is_told_before_anything_starts(folder: Path) -> None:
    (folder / "gate.yaml").write_text(GATE.replace("not_worse", "surely"))
    with pytest.raises(InvalidConfig, match=r"^--gate.*evidence"):
        application(PLANS[0])(PLANS[0], standalone_mode=False)
    assert not (folder / "work").exists()


def test_the_page_tells_every_condition() -> None:
    conditions = {
        "min_images",
        "min_objects",
        "max_size_mb",
        "max_latency_ms",
        "max_class_drop",
        "evidence",
        "max_seen",
        "must_pass",
    }
    assert {name for name in GateFile.__struct_fields__ if f"`{name}" in PAGE} >= conditions
    assert set(msgspec.yaml.decode(GATE)) < set(GateFile.__struct_fields__)


def run(folder: Path, *words: str) -> dict[str, Any]:
    code = "from visionloop.pipelines.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--output", "json"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_training_of_the_page_ends_with_a_verdict_and_a_champion_is_measured(folder: Path) -> None:
    # Nothing is learned in one epoch: the model is below the gate's floor.
    assert "is below the floor 0.5" in json.dumps(run(folder, *TRAINING))
    assert run(folder, *TRAINING, "--gate", '{"floor": 0}')["alias"] == "champion"
    shutil.copytree(folder / "bottles", folder / "bottles-today")
    measured = run(folder, *MEASURING)
    assert (measured["verdict"], measured["measured"]) == ("none", {"model": "bottles/1", "split": "test"})
    assert measured["metrics"]
