"""The commands of docs/checking.md, as a person runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT
from test_comparing import write

from visionloop.training import trial

PAGE = (ROOT / "docs/checking.md").read_text(encoding="utf-8")

COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
CHECKS = [words for words in COMMANDS if words[:3] == ["visionloop", "run", "check"]]
TRAININGS = [words for words in COMMANDS if words[:3] == ["visionloop", "run", "train"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "bottles")
    return tmp_path


def run(words: list[str], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the page in a folder."""
    environment = {
        **os.environ,
        "VISIONLOOP_HOME": str(folder / "home"),
        "VISIONLOOP_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    binary = Path(sys.executable).parent / words[0]
    return subprocess.run(
        [binary, *words[1:], *more], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_names_each_of_its_commands() -> None:
    assert (len(CHECKS), len(TRAININGS)) == (4, 1)
    assert CHECKS[0][3:] == TRAININGS[0][3:]


@pytest.mark.matrix
@pytest.mark.timeout(300)
def test_a_check_passes_and_each_fault_is_refused(folder: Path) -> None:
    passes, still, frozen, elsewhere = CHECKS
    done = run(passes, folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 4
    table = run(passes, folder, "--output", "text").stdout.splitlines()
    shown = re.findall(r"```text\n(CHECK .*?)```", PAGE, re.DOTALL)[0].splitlines()
    assert [line.split()[0] for line in table] == [line.split()[0] for line in shown]
    ends = [
        (ended.returncode, ended.stdout, ended.stderr.splitlines()[-1])
        for ended in (run(words, folder) for words in (still, frozen, elsewhere))
    ]
    assert [(code, stdout) for code, stdout, _ in ends] == [(65, ""), (78, ""), (78, "")]
    assert f"the loss did not fall in {trial.STEPS} steps" in ends[0][2]
    assert "froze the entire model" in ends[1][2]
    assert "device is 7, but no GPU can be used on this machine" in ends[2][2]


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_the_run_that_follows_reuses_what_the_check_did(folder: Path) -> None:
    assert run(CHECKS[0], folder).returncode == 0
    done = run(TRAININGS[0], folder, "--set", "epochs=1", "--gate", '{"floor": 0}')
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert [name for name, stage in stages.items() if stage["reused"]] == ["snapshot", "validate", "convert"]
