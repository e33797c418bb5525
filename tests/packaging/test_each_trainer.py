"""A trainer of this repository is one folder, its extra and its row; all else is found by its name, and nothing names one by hand."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from visionloop.core.policy import TRAINER_IMAGE
from visionloop.pipelines.targets import cluster
from visionloop.training.catalog import reference, trainer

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in ROOT.glob("visionloop/training/trainers/*/__init__.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_there_are_trainers() -> None:
    assert "ultralytics" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_has_its_extra_its_image_and_its_licence(name: str) -> None:
    assert reference(name) == f"visionloop.training.trainers.{name}:TRAINER"
    extras = PROJECT["optional-dependencies"]
    assert name in extras
    assert any(name in re.split(r"[\[,\]]", entry) for entry in extras["all"])
    assert cluster().trainers[name].image == f"{TRAINER_IMAGE}-{name}"
    pinned = (ROOT / "images" / name / "requirements.txt").read_text(encoding="utf-8")
    licence = getattr(trainer(name), "licence", None)
    assert isinstance(licence, str)
    assert re.search(rf"^{trainer(name).distribution}==", pinned, re.MULTILINE)  # type: ignore[attr-defined]
    asked = ["make", "--dry-run", "BUILDER=docker", f"IMAGE={name}", "images"]
    printed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said = "Apache-2.0" if licence == "Apache-2.0" else f"Apache-2.0 AND {licence}"
    assert f'--build-arg IMAGE={name} --build-arg NAME={TRAINER_IMAGE}-{name} --build-arg LICENSES="{said}"' in printed


@pytest.mark.parametrize("file", ["Makefile", "docs/tables.py", "tests/core/logic.py", "images/Dockerfile"])
def test_no_trainer_is_named_by_hand(file: str) -> None:
    words = set(re.findall(r"[a-z]+", (ROOT / file).read_text(encoding="utf-8")))
    # A library's own variables and folders in the images are not the trainer's name.
    assert words & set(NAMES) <= ({"ultralytics"} if file == "images/Dockerfile" else set())
