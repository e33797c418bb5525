"""notebooks/argo-and-hera.ipynb from top to bottom: without a cluster it builds and says what it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import notebook_process
import pytest
import yaml

pytestmark = pytest.mark.slow

NAME = "argo-and-hera"


def test_without_a_cluster_it_builds_and_says_so(run_notebook: Callable[..., notebook_process.Ran]) -> None:
    ran = run_notebook(NAME, {"KUBECONFIG": "", "ARGO_SERVER": "", "ARGO_NAMESPACE": "somewhere"})
    assert ran.code == 0, ran.stderr
    _, built, tasks, form, changed, check, training, followed, *_ = ran.cells
    assert "visionloop-snapshot: snapshot\n" in built
    assert "evaluate   after snapshot && convert && train" in tasks
    assert re.search(r"^epochs +'100' ", form, re.MULTILINE)
    assert changed == "registry.example.com/vision/visionloop-stage:1.2.3 {'cpu': '1', 'memory': '4Gi'}\n"
    assert [task["name"] for task in yaml.safe_load(check)["spec"]["templates"][0]["dag"]["tasks"]] == [
        "snapshot",
        "validate",
    ]
    workflow = yaml.safe_load(training)
    assert workflow["metadata"] == {"generateName": "notebook-", "namespace": "somewhere"}
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "visionloop-train"}
    arguments = {entry["name"]: entry["value"] for entry in workflow["spec"]["arguments"]["parameters"]}
    assert arguments["epochs"] == "2"
    assert arguments["advanced_config"] == '{"mosaic": 0, "workers": 0}'
    assert followed == "neither ARGO_SERVER nor KUBECONFIG is set: there is no cluster to run on\n"


def test_it_is_kept_without_outputs() -> None:
    notebook = json.loads((notebook_process.NOTEBOOKS / f"{NAME}.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
