"""The commands of docs/approving.md run on a model as the page has it, in its order, and give what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from toy_detector import Prepared

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
    for offset in (2, 5):
        prepared.register(prepared.evaluate(prepared.train(offset), NAME), NAME)
    return NAME


def test_the_commands_do_what_the_page_says(
    bottles: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    champions = []
    for words in commands("model"):
        application(words)(words, standalone_mode=False)
        assert json.loads(capsys.readouterr().out)
        champions.append(registry.aliases(bottles)["champion"])
    assert champions == [2, 1, 2]
    champion = registry.champion(bottles)
    assert champion is not None
    assert champion.tags["visionloop.promoted_by"] == "ada"
