"""The labels of pods: run, trace id, model and trainer, in the compiled forms of both engines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from compiled import Argo, Kubeflow

from visionloop.core.names import sanitise
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.runs import workflow_of
from visionloop.pipelines.engines.argo.schedules import cron_workflow
from visionloop.pipelines.engines.argo.templates import SANITISED
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.following.cron import Cron
from visionloop.pipelines.targets import BY_TRAINER, Target, cluster

pytestmark = pytest.mark.slow

#: What tells whose a pod is.
OF_RUN = {pods.RUN_LABEL, pods.TRACE_LABEL, pods.MODEL_LABEL, pods.TRAINER_LABEL}

#: A label's value in Kubernetes (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
VALID = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")

ARGUMENTS = {"workspace": "s3://b/work", "dataset": "s3://b/set", "model_name": "Ours", "trainer": "timm"}


@pytest.fixture(scope="module")
def target() -> Target:
    """With a trainer whose name is no label's value."""
    made = cluster()
    return replace(made, trainers={**made.trainers, "my_trainer_": next(iter(made.trainers.values()))})


@pytest.fixture(scope="module")
def files(target: Target) -> dict[str, str]:
    return argo_files(target)


@pytest.fixture(scope="module", params=["visionloop-train", "visionloop-retrain"])
def argo(files: dict[str, str], request: pytest.FixtureRequest) -> Argo:
    return Argo(files, request.param)


def source(value: str) -> str:
    """The variable that a label's value is made from."""
    before, after = SANITISED.split("{}")
    matched = re.fullmatch(re.escape("{{=" + before) + r"([\w.]+)" + re.escape(after + "}}"), value)
    assert matched, value
    return matched[1]


def test_every_pod_of_a_pipeline_on_argo_tells_run_trace_id_model_and_trainer(argo: Argo) -> None:
    around = argo.pipeline["podMetadata"]["labels"]
    (exit_step,) = argo.templates[argo.name, "exit"]["steps"][0]
    tasks = [*argo.tasks().values(), exit_step]
    assert len(tasks) > len(BY_TRAINER) * 4
    for task in tasks:
        assert set(around) | set(argo.template(task)["metadata"]["labels"]) >= OF_RUN, task["name"]
        # The label is made of the template's input, which is empty where a task gives none.
        assert "trace_id" in [entry["name"] for entry in task["arguments"]["parameters"]], task["name"]


def test_a_pods_labels_are_made_of_what_its_template_declares(files: dict[str, str], argo: Argo) -> None:
    # An expression over anything else stays as it is, which is no label's value: Kubernetes would refuse the pod.
    form = {entry["name"] for entry in argo.pipeline["arguments"]["parameters"]}
    around = argo.pipeline["podMetadata"]["labels"]
    assert set(around) == {pods.MODEL_LABEL, pods.TRAINER_LABEL}
    assert {source(value).removeprefix("workflow.parameters.") for value in around.values()} <= form
    looked_at = 0
    for (_, name), template in argo.templates.items():
        if "container" not in template:
            continue
        looked_at += 1
        inputs = {entry["name"] for entry in template["inputs"]["parameters"]}
        labels = dict(template["metadata"]["labels"])
        assert labels.pop(pods.RUN_LABEL) == "{{workflow.uid}}"
        assert source(labels.pop(pods.TRACE_LABEL)) == "inputs.parameters.trace_id"
        assert "trace_id" in inputs, name
        # A template that told the model would replace what the pipeline tells: not every task is given it.
        assert pods.MODEL_LABEL not in labels, name
        assert [value for value in labels.values() if not VALID.fullmatch(value)] == []
    assert looked_at > len(BY_TRAINER) * 4


def test_the_stages_of_a_trainer_name_it(files: dict[str, str], target: Target) -> None:
    named = {
        (document["spec"]["entrypoint"], template["metadata"]["labels"].get(pods.TRAINER_LABEL))
        for document in Argo(files).documents
        if document["kind"] == "WorkflowTemplate"
        for template in document["spec"]["templates"]
        if "container" in template
    }
    assert {(stage, sanitise(trainer)) for stage in BY_TRAINER for trainer in target.trainers} <= named
    assert {trainer for stage, trainer in named if stage not in BY_TRAINER} == {None}
    assert ("train", "my-trainer") in named


def test_a_run_and_a_schedule_bring_no_labels_of_pods_but_the_templates(argo: Argo) -> None:
    template = argo.document("WorkflowTemplate")
    run = workflow_of(template, ARGUMENTS, "a-trace")
    schedule = cron_workflow("nightly", "ours", template, ARGUMENTS, Cron.parse("0 3 * * *"), "UTC")
    for specification in (run["spec"], schedule["spec"]["workflowSpec"]):
        # What a workflow says itself would replace what its template says.
        assert set(specification) == {"workflowTemplateRef", "arguments"}
        assert specification["workflowTemplateRef"] == {"name": argo.name}
    given = {entry["name"]: entry["value"] for entry in run["spec"]["arguments"]["parameters"]}
    assert given["trace_id"] == "a-trace"
    assert {given["model_name"], given["trainer"]} == {"Ours", "timm"}


def labels_on_kubeflow(target: Target) -> list[dict[str, Any]]:
    """The labels of each executor, of both pipelines."""
    return [
        entry["podMetadata"]["labels"]
        for text in kfp_files(target).values()
        for entry in Kubeflow(text).platform.values()
    ]


def test_on_kubeflow_every_pod_names_the_only_trainer(target: Target) -> None:
    alone = replace(target, trainers={"timm": target.trainers["timm"]})
    assert {labels.get(pods.TRAINER_LABEL) for labels in labels_on_kubeflow(alone)} == {"timm"}
    # Of several trainers a task serves each, and its labels are fixed.
    assert {labels.get(pods.TRAINER_LABEL) for labels in labels_on_kubeflow(target)} == {None}
