"""``notebooks/kubeflow.ipynb`` from top to bottom, without an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from notebook_process import NOTEBOOKS, Ran


@pytest.mark.timeout(900)
def test_it_runs_from_top_to_bottom(run_notebook: Callable[..., Ran]) -> None:
    ran = run_notebook("kubeflow")
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


def test_it_is_kept_without_outputs() -> None:
    notebook = json.loads((NOTEBOOKS / "kubeflow.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
