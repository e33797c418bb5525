"""The toy keeps every promise, and so does each of the trainers here."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from laptop import VISIONLOOP

from visionloop.training import catalog, conformance
from visionloop.training.conformance import Promise, declaration, promises

#: The trainers that Visionloop itself brings.
OWN = sorted(entry.name for entry in distribution("visionloop").entry_points if entry.group == catalog.TRAINERS)

#: The checks that train nothing.
DECLARED = {check.name for check in declaration.GENERAL} | {check.name for check in declaration.OF_TASK}


def own(trainer: str) -> list[Promise]:
    return list(promises(trainer))


@pytest.mark.parametrize(
    "promise",
    [promise for name in OWN for promise in own(name) if promise.check.name in DECLARED],
    ids=lambda promise: f"{promise.trainer}-{promise}",
)
def test_what_our_trainers_declare(promise: Promise) -> None:
    result = promise.outcome()
    assert result.state == "passed", result.sentence


# As a third party writes it: test_NAME = conformance.suite("NAME").
for name in OWN:
    globals()[f"test_{name}"] = pytest.mark.matrix(conformance.suite(name))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(VISIONLOOP), "trainer", "check", *words], capture_output=True, text=True, check=False)


def test_the_toy_passes_at_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = command("toy", "--log", str(log))
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["trainer"], result["failed"]) == ("toy", 0)
    assert result["passed"] >= 30
    assert {row["check"] for row in result["checks"] if row["state"] == "not checked"} == {
        "confusion",
        "resampled",
        "masks",
    }
    assert "passed       detection  resume" in ended.stderr  # in a pipe progress is a line for each check
    assert "a library's chatter on stdout" in log.read_text()


def test_a_broken_trainer_ends_with_65() -> None:
    ended = command("failing", "--output", "text")
    assert ended.returncode == 65
    assert "failed       detection  training" in ended.stdout
    assert ended.stderr.splitlines()[-1].startswith("The trainer failing fails ")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("nothing",), 78, "There is no trainer 'nothing'; there are "),
        (("toy", "--task", "pose"), 78, "--task pose: the trainer toy trains detection"),
        (("toy", "--set", "nosuch=1"), 78, "'nosuch'"),
        (("toy", "--set", "lr0=none"), 78, "lr0"),
        (("toy", "--set", "epochs=1"), 78, "--set epochs: a check sets it itself; leave it out."),
        (("toy", "--set", "batch=2"), 78, "--set batch: "),
        (("toy", "--set", "trainer=timm"), 78, "--set trainer: "),
        (("toy", "--log", "/none/such"), 77, "--log /none/such: it can't be written"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], code: int, sentence: str) -> None:
    ended = command(*words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert sentence in ended.stderr
