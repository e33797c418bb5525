"""The commands of docs/provenance.md run on a model as the page has it, and print what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from toy_detector import Prepared

from visionloop.core.errors import InvalidReceipt
from visionloop.core.stores import local_path
from visionloop.pipelines.cli.main import application
from visionloop.registry import Registry

PAGE = (Path(__file__).parents[2] / "docs/provenance.md").read_text(encoding="utf-8")
NAME = "screws"
COMMANDS = [
    shlex.split(line.removeprefix("$ "))[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
TEXTS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def plain(text: str, workspace: str, dataset: Path) -> str:
    """The same without what differs from one machine to another: places, keys, sizes."""
    text = text.replace(workspace, "WORK").replace(dataset.as_uri(), "SCREWS")
    text = re.sub(r"/[0-9a-f]{64}/", "/KEY/", text)
    text = re.sub(r"/[0-9a-f]{12}/model/", "/ATTEMPT/model/", text)
    return re.sub(r"[\d,]+(?= (bytes|files|tags))", "N", text)


def test_the_commands_print_what_the_page_says(
    prepared: Prepared, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), NAME), NAME)

    def shown(words: list[str]) -> str:
        capsys.readouterr()
        application(words)(words, standalone_mode=False)
        return capsys.readouterr().out

    def alike(text: str) -> str:
        return plain(text, prepared.workspace, tmp_path / "dataset")

    first, *others = COMMANDS
    assert alike(shown(first)) == alike(TEXTS[0])
    images = [json.loads(shown(words))["links"][-1]["link"] for words in others]
    assert images == ["images", "images", "snapshot"]
    champion = registry.champion(NAME)
    assert champion is not None
    folder = local_path(champion.training_receipt or "")
    assert folder is not None
    (best,) = folder.parent.glob("*/best.pt")
    best.write_bytes(best.read_bytes()[:-1] + b" ")
    with pytest.raises(InvalidReceipt) as caught:
        shown(first)
    assert f"{alike(caught.value.sentence)}\n" == TEXTS[1]
