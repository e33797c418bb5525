"""``notebooks/kubeflow.ipynb`` from top to bottom, without an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from laptop import THIRD_PARTY, TINY, TOY
from notebook_process import NOTEBOOKS, Ran, code_cells

from visionloop.training import catalog, configuration


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_it_runs_from_top_to_bottom(run_notebook: Callable[..., Ran]) -> None:
    """With the toy trainer: that the settings in it train is shown by test_its_settings_are_the_real_trainers."""
    ran = run_notebook("kubeflow", {"PYTHONPATH": str(THIRD_PARTY)}, settings=TOY)
    assert ran.code == 0, ran.stderr
    _, compiled, form, written, trained, read, again, endpoint, _ = ran.cells
    assert compiled.split() == ["visionloop-retrain.yaml", "visionloop-train.yaml"]
    assert any(line.split()[:3] == ["epochs", "NUMBER_INTEGER", "100.0"] for line in form.splitlines())
    assert written.startswith("32 images with ")
    assert trained == "notebook-digits version 1 is champion (promote)\n"
    assert [line.split(":")[0] for line in read.splitlines() if not line.startswith(" ")] == [
        "snapshot",
        "validate",
        "convert",
        "train",
        "evaluate",
        "register",
    ]
    assert "mAP50" in read
    assert "False" not in again
    assert endpoint == "KFP_HOST is not set: there is no endpoint to run on\n"


def test_its_settings_are_the_real_trainers() -> None:
    """Those with which the tests' own training runs, on larger pictures."""
    (line,) = [line for cell in code_cells("kubeflow") for line in cell.splitlines() if line.startswith("settings = ")]
    settings = json.loads(line.removeprefix("settings = "))
    resolved = configuration.resolve(configuration.parse_settings(settings), catalog.trainers(), {}, "detection")
    assert resolved.trainer == "ultralytics"
    assert {*settings} - {"imgsz=64"} == {*TINY} - {"imgsz=32", "nbs=8"}


def test_it_is_kept_without_outputs() -> None:
    notebook = json.loads((NOTEBOOKS / "kubeflow.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
