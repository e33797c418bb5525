"""The predicting pipeline in the compiled form of both engines: one stage, in the image of the trainer that the form names."""

from __future__ import annotations

from typing import Any

import yaml
from test_measure_pipeline import MANIFESTS, TRAINERS, kfp_tasks

from visionloop.core.policy import POLICIES
from visionloop.pipelines.following.follow import stages_of
from visionloop.pipelines.parameters import PREDICT


def argo() -> dict[str, Any]:
    specification: dict[str, Any] = yaml.safe_load((MANIFESTS / "argo/visionloop-predict.yaml").read_text())["spec"]
    return specification


def kfp() -> dict[str, Any]:
    text = (MANIFESTS / "kfp/visionloop-predict.yaml").read_text()
    specification: dict[str, Any] = next(yaml.safe_load_all(text))
    return specification


def test_both_forms_ask_for_the_model_and_the_images() -> None:
    arguments = {entry["name"]: entry for entry in argo()["arguments"]["parameters"]}
    assert [name for name in arguments if name in PREDICT] == list(PREDICT)
    assert set(arguments) - set(PREDICT) == {"gpus", "spot", "trace_id"}
    fields = kfp()["root"]["inputDefinitions"]["parameters"]
    assert set(fields) == set(PREDICT)
    needed = {"workspace", "model", "images"}
    assert {name for name, entry in arguments.items() if "value" not in entry} == needed
    assert {name for name, entry in fields.items() if not entry.get("isOptional")} == needed


def test_on_argo_the_form_s_trainer_predicts_and_nothing_else_runs_but_cleanup() -> None:
    (dag,) = (template["dag"] for template in argo()["templates"] if "dag" in template)
    assert {task["templateRef"]["name"] for task in dag["tasks"]} == {
        f"visionloop-predict-{trainer}" for trainer in TRAINERS
    }
    for task in dag["tasks"]:
        given = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
        for name in ("model", "images", "confidence", "write", "tile", "workspace"):
            assert given[name] == f"{{{{workflow.parameters.{name}}}}}"
        assert "workflow.parameters.gpus" in given["gpus"]
        assert "workflow.parameters.trainer" in task["when"]
    (steps,) = (template["steps"] for template in argo()["templates"] if "steps" in template)
    assert [step["templateRef"]["name"] for row in steps for step in row] == ["visionloop-cleanup"]
    labels = argo()["workflowMetadata"]["labelsFrom"]
    assert "workflow.parameters.images" in labels["visionloop/dataset"]["expression"]
    assert "model_name" not in str(argo()["podMetadata"])


def test_on_kubeflow_too() -> None:
    tasks = kfp_tasks(kfp())
    stages = {name.rstrip("-0123456789") for name in tasks}
    assert {"predict", "cleanup"} <= stages
    assert not stages & {"snapshot", "train", "evaluate", "register"}
    predictions = [task for name, found in tasks.items() if name.rstrip("-0123456789") == "predict" for task in found]
    assert len(predictions) == len(TRAINERS)
    for task in predictions:
        assert {"model", "images", "confidence", "write", "tile", "workspace"} <= set(task["inputs"]["parameters"])


def test_it_has_a_gpu_as_an_evaluation_has_and_a_day() -> None:
    row = POLICIES["predict"]
    assert (row.gpus, row.gpus_most, row.timeout) == (1, 1, 24 * 3600)


def test_who_follows_such_a_run_sees_its_stages_alone() -> None:
    assert stages_of({"model": "a/1", "images": "s3://a", "workspace": "s3://b"}) == ("predict", "cleanup")
    assert "train" in stages_of({"model": "yolo11n.yaml", "model_name": "a", "workspace": "s3://b"})
