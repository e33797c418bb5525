"""docs/tracking.md: its tables are those of the code, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import laptop as machine
import pytest
from documents import ROOT, page, rows
from laptop import Dataset

from visionloop.core import catalog
from visionloop.training.tracking.choice import TRACKERS
from visionloop.training.tracking.database.schema import MIGRATIONS, SCHEMA

PAGE = page("docs/tracking.md")

COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_the_page_tells_of_every_tracker() -> None:
    told = [row[0].strip("`") for row in rows("docs/tracking.md", "tracker")]
    own = [name for name in catalog.names(TRACKERS) if str(catalog.value(TRACKERS, name)).startswith("visionloop.")]
    assert sorted(told) == own
    assert sorted(name.lower() for name in re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == own


def test_the_tables_are_those_that_are_made() -> None:
    made = {SCHEMA: {"version", "updated_at"}}
    for statement in (statement for version in MIGRATIONS for statement in version):
        name = re.findall(r"CREATE TABLE (\w+)", statement)[0]
        made[name] = set(re.findall(r"^\s+([a-z_]+) [A-Z]", statement, re.MULTILINE))
    told = {
        row[0].strip("`"): set(re.findall(r"`([a-z_]+)`", re.sub(r"\(.*?\)", "", row[2])))
        for row in rows("docs/tracking.md", "table")
    }
    assert told == made
    assert f"the version of the others, {len(MIGRATIONS)}" in PAGE


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    Dataset(machine.file_prefix(tmp_path / "bottles", "dataset")).put(machine.sample_objects(6, 3, 3))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    toy = "--task detection --set trainer=toy --set batch=8 --set lr0=1"
    lines = [line.replace("epochs=20", "epochs=2") for line in COMMANDS]
    lines = [f"{line} {toy}" if line.startswith("visionloop run train") else line for line in lines]
    # A server would stay: what it would show is printed in its place.
    lines = [f"{line} --inspect" if line.startswith("tensorboard") else line for line in lines]
    lines += ["visionloop down"]
    binaries = Path(sys.executable).parent
    environment = os.environ | {
        "VISIONLOOP_HOME": str(tmp_path / "home"),
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(machine.THIRD_PARTY),
        "VISIONLOOP_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "val/mAP50" in done.stdout
    best = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("bottles\t")]
    assert [row[:3] for row in best] == [["bottles", "third", "succeeded"]] * 2
    for line in COMMANDS:
        assert shlex.split(line)


def test_the_script_of_the_page_names_the_best_runs_first(tmp_path: Path) -> None:
    from tracked_training import Started

    url = f"sqlite:///{tmp_path}/tracking.db"
    variables = {"OBSERVABILITY_BACKENDS": "database", "VISIONLOOP_DATABASE_URL": url}
    for run, value in (("first", 0.25), ("second", 0.75)):
        tracker = Started(variables, run=run, experiment="bolts")
        tracker.finish("succeeded", {1: {"val/mAP50-95": value}, 2: {"val/other": 9.0}})
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/best_runs.py"), "val/mAP50-95"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "bolts\tsecond\tsucceeded\tepoch 1\t0.75",
        "bolts\tfirst\tsucceeded\tepoch 1\t0.25",
    ]
