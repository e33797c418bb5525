"""What a person names never stands among the labels and annotations that Argo reads as its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionloop.pipelines.engines.argo.runs import workflow_of

MANIFESTS = Path(__file__).parents[2] / "manifests"
COMPILED = sorted((MANIFESTS / "argo").glob("visionloop-*.yaml"))

#: Argo's own prefix, and what stands for a value that only the run knows.
ENGINE = "workflows.argoproj.io/"
FIELDS = ("labels", "annotations", "labelsFrom")


def marks(value: Any) -> Iterator[tuple[str, Any]]:
    """Every label and annotation below a value, by its name."""
    if isinstance(value, dict):
        for name in FIELDS:
            yield from (value.get(name) or {}).items()
        for below in value.values():
            yield from marks(below)
    elif isinstance(value, list):
        for below in value:
            yield from marks(below)


def engines(value: Any) -> dict[str, Any]:
    """Those of them that are Argo's own."""
    return {name: entry for name, entry in marks(value) if name.startswith(ENGINE)}


@pytest.mark.parametrize("file", COMPILED, ids=lambda file: file.stem)
def test_the_engines_own_marks_hold_fixed_words_alone(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        for name, entry in engines(document).items():
            assert isinstance(entry, str), name
            assert "{{" not in entry, name


def test_marks_are_found() -> None:
    # Without this the test above could look at nothing.
    results = [name for file in COMPILED for entry in yaml.safe_load_all(file.read_text()) for name in engines(entry)]
    assert {"workflows.argoproj.io/title", "workflows.argoproj.io/description"} <= set(results)
    run = yaml.safe_load((MANIFESTS / "argo" / "visionloop-train.yaml").read_text())["spec"]["workflowMetadata"]
    assert {name for name, _ in marks(run)} >= {"visionloop/model", "visionloop/dataset", "visionloop/trace-id"}


@pytest.mark.parametrize("pipeline", ["train", "retrain"])
def test_a_started_run_tells_the_engine_its_template_alone(pipeline: str) -> None:
    documents = yaml.safe_load_all((MANIFESTS / "argo" / f"visionloop-{pipeline}.yaml").read_text())
    (template,) = [entry for entry in documents if entry["kind"] == "WorkflowTemplate"]
    declared = [entry["name"] for entry in template["spec"]["arguments"]["parameters"]]
    arguments = {name: f"mine-{number}" for number, name in enumerate(declared)}
    made = workflow_of(template, arguments, "mine-trace")
    assert engines(made) == {"workflows.argoproj.io/workflow-template": f"visionloop-{pipeline}"}
    # The names are there, under a prefix of our own.
    assert "mine-trace" in json.dumps(made["metadata"])
