"""The measuring pipeline in the compiled form of both engines: no training, no registration, one evaluation by its trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from visionloop.pipelines.parameters import MEASURE
from visionloop.training import catalog

MANIFESTS = Path(__file__).parents[2] / "manifests"
TRAINERS = sorted(catalog.trainers())


def argo() -> dict[str, Any]:
    specification: dict[str, Any] = yaml.safe_load((MANIFESTS / "argo/visionloop-measure.yaml").read_text())["spec"]
    return specification


def argo_tasks() -> dict[str, dict[str, Any]]:
    (dag,) = (template["dag"] for template in argo()["templates"] if "dag" in template)
    return {task["name"]: task for task in dag["tasks"]}


def kfp() -> dict[str, Any]:
    text = (MANIFESTS / "kfp/visionloop-measure.yaml").read_text()
    specification: dict[str, Any] = next(yaml.safe_load_all(text))
    return specification


def kfp_tasks(specification: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The tasks of every DAG by the name of their component."""
    found: dict[str, list[dict[str, Any]]] = {}
    for dag in [specification["root"]["dag"], *(each.get("dag", {}) for each in specification["components"].values())]:
        for task in dag.get("tasks", {}).values():
            found.setdefault(task["componentRef"]["name"].removeprefix("comp-"), []).append(task)
    return found


def test_both_forms_ask_for_the_model_and_the_data() -> None:
    arguments = {entry["name"]: entry for entry in argo()["arguments"]["parameters"]}
    assert [name for name in arguments if name in MEASURE] == list(MEASURE)
    assert set(arguments) - set(MEASURE) == {"gpus", "spot", "trace_id"}
    assert "value" not in arguments["model"]
    fields = kfp()["root"]["inputDefinitions"]["parameters"]
    assert set(fields) == set(MEASURE)
    assert not fields["model"].get("isOptional")
    assert fields["split_name"]["defaultValue"] == ""


def test_on_argo_the_form_s_trainer_evaluates_and_nothing_is_trained() -> None:
    tasks = argo_tasks()
    evaluations = {name: task for name, task in tasks.items() if name.startswith("evaluate")}
    assert {task["templateRef"]["name"] for task in evaluations.values()} == {
        f"visionloop-evaluate-{trainer}" for trainer in TRAINERS
    }
    assert set(tasks) - set(evaluations) == {"snapshot", "validate-shards", "validate", "convert-shards", "convert"}
    for task in evaluations.values():
        given = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
        assert given["model"] == "{{workflow.parameters.model}}"
        assert given["converted"] == "{{tasks.convert.outputs.parameters.receipt}}"
        assert "training" not in given
        assert "workflow.parameters.trainer" in task["when"]
    snapshot = {entry["name"] for entry in tasks["snapshot"]["arguments"]["parameters"]}
    assert not snapshot & {"settings", "gate", "model_name"}
    labels = argo()["podMetadata"]["labels"]
    assert "model_name" not in str(labels)


def test_on_kubeflow_too() -> None:
    tasks = kfp_tasks(kfp())
    stages = {name.rstrip("-0123456789") for name in tasks}
    assert {"snapshot", "validate", "convert", "evaluate", "cleanup"} <= stages
    assert not stages & {"train", "register", "reuse-training", "reuse-evaluation"}
    (snapshot,) = tasks["snapshot"]
    assert snapshot["inputs"]["parameters"]["trains"]["runtimeValue"]["constant"] is False
    evaluations = [task for name, found in tasks.items() if name.rstrip("-0123456789") == "evaluate" for task in found]
    assert len(evaluations) == len(TRAINERS)
    for task in evaluations:
        assert {"model", "converted", "split_name", "settings", "tile"} <= set(task["inputs"]["parameters"])
        assert "training" not in task["inputs"]["parameters"]
