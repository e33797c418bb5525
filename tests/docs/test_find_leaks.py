"""The commands of "Find leaks", on a dataset that has one."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_datasets import dataset

from visionloop.core import catalog
from visionloop.core.errors import VisionloopError
from visionloop.core.running import Invocation, run_stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "leaks.md"


def commands() -> list[dict[str, Any]]:
    """The stages that the page runs, each with its options by name."""
    lines = re.findall(r"^\$ visionloop stage (.*)$", PAGE.read_text(), re.MULTILINE)
    arguments = []
    for line in lines:
        stage, *words = shlex.split(line)
        options = {
            name.removeprefix("--").replace("-", "_"): value
            for name, value in zip(words[::2], words[1::2], strict=True)
        }
        arguments.append({"stage": stage, **options})
    return arguments


def test_the_leak_is_found_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = dataset(tmp_path / "pets", "detection", None)
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    for number, entry in enumerate(document["images"]):
        del entry["split"]
        entry["metadata"] = {"source": "abcd"[number]}
    # The same file under every name: whatever the split, two splits have it.
    for number in range(1, 4):
        shutil.copy(folder / "images" / "0.png", folder / "images" / f"{number}.png")
    path.write_text(json.dumps(document))
    Path("checks.yaml").write_text(re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    receipt, ends = "", []
    for command in commands():
        stage, workspace, run = (command.pop(name) for name in ("stage", "workspace", "run"))
        values = {name: receipt if value == "RECEIPT" else value for name, value in command.items()}
        try:
            outcome = run_stage(catalog.stage(stage), values, Invocation(workspace, run=run))
        except VisionloopError as error:
            ends.append(f"{error.exit_code} {error.sentence}")
        else:
            assert outcome.result is not None
            receipt = outcome.result.uri
            ends.append(stage)
    assert [end.partition(" ")[0] for end in ends] == ["snapshot", "65", "snapshot", "validate"]
    assert re.search(
        r"of (train|val) has the same bytes as \S+ of (test|val), so what is measured was seen before", ends[1]
    )
