"""The measuring pipeline on Argo Workflows: a model that exists already, on a dataset."""

from __future__ import annotations

from hera.workflows import DAG, WorkflowTemplate

from visionloop.components.calls import MEASURED, SHARDS
from visionloop.pipelines.definitions import MEASURE
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.train import (
    LABELS,
    add_task,
    check_and_convert,
    chosen,
    exit_steps,
    output_of,
    parameters_of,
    pipeline_template,
    places_of,
)
from visionloop.pipelines.parameters import measure_form
from visionloop.pipelines.targets import Target


def measure_template(target: Target) -> WorkflowTemplate:
    """The DAG over the stages' templates; evaluate runs in the image of the trainer that the form names."""
    form = parameters_of(*MEASURE.parameters)
    # A run has no name of a model that it makes: it is found by the one that it measures.
    labels = {**LABELS, pods.MODEL_LABEL: "workflow.parameters.model"}
    with pipeline_template(MEASURE, measure_form(target.trainers), labels) as template:
        with DAG(name="pipeline"):
            add_task("snapshot", (), MEASURED["snapshot"].arguments(form, {}))
            shards = output_of("snapshot", SHARDS)
            receipts = check_and_convert(MEASURED, form, output_of("snapshot"), shards, ("snapshot",))
            for trainer in target.trainers:
                arguments = MEASURED["evaluate"].arguments(form, receipts)
                conditions = " && ".join(chosen(trainer, target))
                add_task(
                    "evaluate",
                    ("snapshot", "convert"),
                    arguments | places_of(target.row("evaluate", trainer)),
                    when=f"{{{{={conditions}}}}}" if conditions else None,
                    trainer=trainer,
                )
        exit_steps()
    return template
