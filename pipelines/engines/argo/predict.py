"""The predicting pipeline on Argo Workflows: a model that exists already, on images without labels."""

from __future__ import annotations

from hera.workflows import DAG, WorkflowTemplate

from visionloop.components.calls import PREDICTED
from visionloop.pipelines.definitions import PREDICT
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.train import (
    LABELS,
    add_task,
    chosen,
    exit_steps,
    parameters_of,
    pipeline_template,
    places_of,
)
from visionloop.pipelines.parameters import predict_form
from visionloop.pipelines.targets import Target


def predict_template(target: Target) -> WorkflowTemplate:
    """The DAG over the stages' templates; predict runs in the image of the trainer that the form names."""
    form = parameters_of(*PREDICT.parameters)
    # A run is found by the model that predicts, and by the last part of where its images lie.
    labels = {
        **LABELS,
        pods.MODEL_LABEL: "workflow.parameters.model",
        pods.DATASET_LABEL: "sprig.base(sprig.trimSuffix('/', workflow.parameters.images))",
    }
    with pipeline_template(PREDICT, predict_form(target.trainers), labels) as template:
        with DAG(name="pipeline"):
            for trainer in target.trainers:
                arguments = PREDICTED["predict"].arguments(form, {})
                conditions = " && ".join(chosen(trainer, target))
                add_task(
                    "predict",
                    (),
                    arguments | places_of(target.row("predict", trainer)),
                    when=f"{{{{={conditions}}}}}" if conditions else None,
                    trainer=trainer,
                )
        exit_steps()
    return template
