"""``visionloop trainer``: what it lists, and what it says of a trainer that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from laptop import THIRD_PARTY
from typer.testing import CliRunner

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.cli.trainer import application
from visionloop.training.catalog import TRAINERS, install_command, trainer
from visionloop.training.conformance import promises

#: Trainers of a third party: one whose library is not installed, one that lacks a requirement, one of the first protocol, two that
#: are incomplete, and one that can't be loaded.
MODULE = """
from visionloop.training.trainers.timm import TimmTrainer

class Absent(TimmTrainer):
    name, distribution, licence = "absent", "no-such-library", "MIT"

class Lacking(TimmTrainer):
    name, distribution, packages = "lacking", "msgspec", ("msgspec", "no-such-requirement")

class Old(TimmTrainer):
    protocol = 1

class Empty:
    name, protocol = "empty", 2

class Imageless(TimmTrainer):
    name, policy = "imageless", None

ABSENT, LACKING, OLD, EMPTY, IMAGELESS = Absent(), Lacking(), Old(), Empty(), Imageless()
"""

ENTRY_POINTS = """
[visionloop.trainers]
absent = several:ABSENT
lacking = several:LACKING
empty = several:EMPTY
imageless = several:IMAGELESS
old = several:OLD
torn = several.torn:TRAINER
"""


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A distribution with these trainers, and the toy's, on this process's path."""
    described = tmp_path / "several_trainers-0.3.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: several-trainers\nVersion: 0.3\nLicense-Expression: BSD-2-Clause\n"
    )
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "several.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    catalog.load.cache_clear()
    yield
    catalog.load.cache_clear()


def listed(*words: str) -> str:
    result = CliRunner().invoke(application, ["list", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list_as_json(several: None) -> None:
    rows = {row["name"]: row for row in json.loads(listed())["trainers"]}
    assert list(rows) == sorted(rows)
    assert rows["ultralytics"]["tasks"] == ["classification", "detection", "pose", "segmentation"]
    assert {
        "distribution": "timm",
        "licence": "Apache-2.0",
        "image": "visionloop-trainer-timm",
        "problem": None,
    }.items() <= (rows["timm"].items())
    assert rows["timm"]["installed"]
    assert rows["timm"]["install"] == "pip install 'visionloop[timm]'"
    assert {"distribution": "visionloop-example", "version": "1.0", "licence": None, "installed": True}.items() <= (
        rows["toy"].items()
    )
    assert {"distribution": "several-trainers", "version": "0.3", "licence": "MIT", "installed": False}.items() <= (
        rows["absent"].items()
    )
    assert "version 1 of the trainers' protocol" in rows["old"]["problem"]
    assert rows["torn"]["problem"].startswith("It can't be used (ModuleNotFoundError")
    assert "no attribute 'tasks'" in rows["empty"]["problem"]
    assert "no attribute 'image'" in rows["imageless"]["problem"]
    for name in ("absent", "lacking"):
        assert rows[name]["install"] == install_command(trainer(name))
        assert not rows[name]["installed"]
    assert rows["torn"]["licence"] == "BSD-2-Clause"


def test_the_list_as_text(several: None) -> None:
    lines = {line.split()[0]: line for line in listed("--output", "text").splitlines()}
    assert lines["TRAINER"].split() == ["TRAINER", "DISTRIBUTION", "LICENCE", "TASKS", "IMAGE", "INSTALLED"]
    assert lines["toy"].split() == ["toy", "visionloop-example", "1.0", "-", "detection", "example-trainer", "yes"]
    assert lines["absent"].endswith("pip install 'no-such-library'")


@pytest.mark.parametrize(("name", "package"), [("absent", "no-such-library"), ("lacking", "no-such-requirement")])
def test_a_trainer_that_is_not_installed_is_not_checked(several: None, name: str, package: str) -> None:
    with pytest.raises(
        InvalidConfig, match=rf"The trainer {name} needs the package {package}, .* pip install '{package}'"
    ):
        list(promises(name))


@pytest.mark.parametrize("name", ["empty", "imageless", "old"])
def test_of_a_trainer_that_lacks_what_the_protocol_asks_for_that_alone_is_checked(several: None, name: str) -> None:
    (promise,) = promises(name)
    outcome = promise.outcome()
    assert (outcome.check, outcome.state) == ("attributes", "failed")


def test_of_many_trainers_ten_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "many-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: many\nVersion: 1\n")
    (described / "entry_points.txt").write_text(
        "[visionloop.trainers]\n" + "".join(f"a{number:02} = many:A\n" for number in range(20))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidConfig, match=r"There is no trainer 'nothing'; there are a00, .*, a09\.$"):
        catalog.find(TRAINERS, "nothing", "trainer")
