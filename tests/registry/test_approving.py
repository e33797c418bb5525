"""The commands of docs/approving.md run on a model as the page has it, in its order, and give what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from toy_detector import Prepared, write_dataset

from visionloop.pipelines.cli.main import application
from visionloop.registry import Registry

PAGE = (Path(__file__).parents[2] / "docs/approving.md").read_text(encoding="utf-8")
NAME = "bottles"


def commands(first: str) -> list[list[str]]:
    """The page's commands that begin with a word, without the program's name."""
    blocks = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
    words = [shlex.split(line.removeprefix("$ "))[1:] for line in blocks.splitlines()]
    return [each for each in words if each[0] == first]


@pytest.fixture
def bottles(prepared: Prepared, registry: Registry) -> str:
    """A champion, and a version that the gate kept."""
    with contextlib.suppress(MlflowException):  # the model of another page, whose tests share this registry
        MlflowClient().delete_registered_model(NAME)
    for offset in (2, 5):
        prepared.register(prepared.evaluate(prepared.train(offset), NAME), NAME)
    return NAME


def test_the_commands_do_what_the_page_says(
    bottles: str,
    registry: Registry,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    champions = []
    for words in commands("model"):
        application(words)(words, standalone_mode=False)
        assert json.loads(capsys.readouterr().out)
        champions.append((words[1], registry.aliases(bottles)["champion"]))
    decided = [number for word, number in champions if word in ("promote", "rollback")]
    assert (len(champions), decided) == (9, [2, 1, 2])
    assert [version.number for version in registry.of_name(bottles)] == [2]
    champion = registry.champion(bottles)
    assert champion is not None
    assert champion.tags["visionloop.promoted_by"] == "ada"


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_training_of_the_page_waits_for_a_person(tmp_path: Path) -> None:
    write_dataset(tmp_path / "bottles", images=16)
    environment = os.environ | {"VISIONLOOP_HOME": str(tmp_path / "home")}
    code = "from visionloop.pipelines.cli import main; main()"

    def run(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--output", "json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    (words,) = commands("run")
    trained = run(*(word.replace("epochs=20", "epochs=1") for word in words), "--gate", '{"floor": 0}')
    assert (trained["verdict"], trained["version"], trained["alias"]) == ("promote", 1, "challenger")
    assert "visionloop model promote bottles/1" in trained["alias_reason"]
    assert run("model", "promote", "bottles/1", "--by", "ada")["changed"]
    (entry,) = run("model", "list")["models"]
    assert (entry["aliases"], entry["promoted_by"]) == (["champion"], "ada")
