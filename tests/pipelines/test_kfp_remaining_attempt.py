"""What is left of a task after a permanent failure: KFP tries it again anyway, and it ends before it has begun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.components.calls import STAGES
from visionloop.core import runs
from visionloop.core.errors import VisionloopError, all_errors, by_code
from visionloop.core.storage import open_prefix

#: What takes seconds to import, or a network to answer.
HEAVY = ("torch", "ultralytics", "mlflow", "pandas", "matplotlib", "sklearn")

SENTENCE = "annotations.json: images[3] has no file_name; add it."

ATTEMPT = """
import json, sys
stage, workspace, heavy = sys.argv[1], sys.argv[2], sys.argv[3].split()
from visionloop.components.kubeflow import run_stage
try:
    # An empty list of exports is no work at all.
    run_stage(stage, workspace, "one", "", {"export": "onnx"} if stage == "export" else {})
except SystemExit as ended:
    print(json.dumps({"code": ended.code, "heavy": [name for name in heavy if name in sys.modules]}))
"""


def fail(workspace: Path, stage: str, code: int, error_code: str) -> None:
    """A permanent failure of a moment ago, as the first attempt records it."""
    record = runs.RunRecord(open_prefix(str(workspace), "results"), "one")
    record.open({"dataset": "somewhere"}, None)
    error = by_code(code, error_code)(SENTENCE)
    record.write_failure(runs.describe_failure(stage, error, attempt=1, trace_id="t", traceback=None))


def attempt(workspace: Path, stage: str) -> tuple[dict[str, object], str]:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPT, stage, str(workspace), " ".join(HEAVY)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(value, dict)
    return value, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_it_ends_with_the_first_ones_code_and_sentence_and_loads_nothing_heavy(stage: str, tmp_path: Path) -> None:
    """The 2 s of the contract: no library, no input, no store but the run's record is touched before the end."""
    fail(tmp_path, stage, 65, "INVALID_DATASET")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    ended, said = attempt(tmp_path, stage)
    assert ended == {"code": 65, "heavy": []}
    assert said.splitlines()[-1] == SENTENCE
    assert "Traceback" not in said
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


PERMANENT = sorted(
    {(error.exit_code, error.error_code) for error in all_errors()[1:] if error.exit_code in (65, 70, 77, 78, 79, 130)}
)


@pytest.mark.parametrize(("code", "error_code"), PERMANENT)
def test_every_permanent_failure_is_honoured(code: int, error_code: str, tmp_path: Path) -> None:
    from visionloop.components.kubeflow import run_stage

    fail(tmp_path, "snapshot", code, error_code)
    with pytest.raises(SystemExit) as ended:
        run_stage("snapshot", str(tmp_path), "one", "", {})
    assert ended.value.code == code


def test_another_stages_failure_is_not_its_own(tmp_path: Path) -> None:
    fail(tmp_path, "validate", 65, "INVALID_DATASET")
    ended, said = attempt(tmp_path, "snapshot")
    assert ended["code"] == 78
    assert said.splitlines()[-1].startswith("snapshot needs --dataset")


def test_the_errors_that_are_permanent_are_all_here() -> None:
    codes = {code for code, _ in PERMANENT}
    retried = {error.exit_code for error in all_errors() if issubclass(error, VisionloopError)} - codes
    assert retried == {71, 75, 76, 124, 137, 143}
