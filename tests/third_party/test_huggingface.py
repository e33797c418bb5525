"""A third party's trainer in a distribution of its own: it keeps what the protocol promises.

Its library, transformers, is among the pinned packages, because a trainer of our own uses it too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest
from laptop import VISIONLOOP

DISTRIBUTION = Path(__file__).parent / "huggingface"

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed; pip install transformers"
)


def trainer(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of ``visionloop trainer`` with the distribution on its path."""
    paths = [str(DISTRIBUTION), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [str(VISIONLOOP), "trainer", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_listed_with_the_command_that_installs_it() -> None:
    rows = {row["name"]: row for row in json.loads(trainer("list").stdout)["trainers"]}
    assert {
        "distribution": "visionloop-huggingface",
        "version": "1.0",
        "tasks": ["classification"],
        "image": "visionloop-trainer-huggingface",
        "install": "pip install 'visionloop[transformers]'",
        "problem": None,
    }.items() <= rows["huggingface"].items()
    assert rows["huggingface"]["installed"] == (importlib.util.find_spec("transformers") is not None)


@pytest.mark.matrix
@needs_transformers
@pytest.mark.parametrize("model", ["resnet.yaml", "vit.yaml"])
def test_it_keeps_every_promise(model: str) -> None:
    ended = trainer("check", "huggingface", "--set", f"model={model}")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["failed"] == 0
    assert result["passed"] >= 28
