"""The retraining pipeline on Argo Workflows: the training pipeline, run only if snapshot decides so, and its schedule."""

from __future__ import annotations

import json

from hera.workflows import DAG, CronWorkflow, Parameter, Task, WorkflowTemplate
from hera.workflows.models import WorkflowTemplateRef

from visionloop.components.calls import SHARDS
from visionloop.components.snapshot.retraining.policy import SKIP
from visionloop.pipelines.definitions import RETRAIN, WORTH_IT
from visionloop.pipelines.engines.argo.templates import shown_as
from visionloop.pipelines.engines.argo.train import (
    exit_steps,
    freeze,
    output_of,
    pipeline_template,
    reference_to,
    tasks_after_snapshot,
)
from visionloop.pipelines.parameters import form
from visionloop.pipelines.targets import Target

#: A policy to start from.
POLICY = {"min_new_images": 100, "drift_above": 0.1, "champion_older_than_days": 30, "max_runs_per_week": 2}

#: When the schedule fires by default: each night, in UTC.
NIGHTLY = "0 3 * * *"

#: Seconds after its time within which a run that could not start (the controller was down) still does.
LATEST_START_SECONDS = 3600

#: Finished runs that a schedule keeps; their templates' own time to live removes them sooner.
KEPT_RUNS = 3


def retrain_template(target: Target) -> WorkflowTemplate:
    """The DAG over the stages' templates."""
    with pipeline_template(RETRAIN, form(target.trainers, RETRAIN.parameters)) as template:
        with DAG(name="pipeline"):
            freeze(RETRAIN.parameters)
            # Not "== go": if a snapshot's outputs were lost, the next stage reports it.
            Task(
                name=WORTH_IT,
                depends="snapshot",
                when=f"{{{{={reference_to('snapshot', 'go')} != '{SKIP}'}}}}",
                template=WORTH_IT,
                arguments={"snapshot": output_of("snapshot"), SHARDS: output_of("snapshot", SHARDS)},
            )
        with DAG(name=WORTH_IT, inputs=[Parameter(name="snapshot"), Parameter(name=SHARDS)]):
            tasks_after_snapshot(target, "{{inputs.parameters.snapshot}}", f"{{{{inputs.parameters.{SHARDS}}}}}")
        exit_steps()
    return template


def retrain_schedule() -> CronWorkflow:
    """A nightly retraining, suspended: it has no dataset, workspace and model yet."""
    return CronWorkflow(
        name=RETRAIN.name,
        annotations=dict(
            shown_as("Visionloop: scheduled retraining", "Give dataset, workspace and model_name, then resume it.")
        ),
        labels={"app.kubernetes.io/name": "visionloop"},
        schedules=[NIGHTLY],
        timezone="Etc/UTC",
        concurrency_policy="Forbid",
        starting_deadline_seconds=LATEST_START_SECONDS,
        successful_jobs_history_limit=KEPT_RUNS,
        failed_jobs_history_limit=KEPT_RUNS,
        cron_suspend=True,
        workflow_template_ref=WorkflowTemplateRef(name=RETRAIN.name),
        arguments=[
            Parameter(name="workspace", value=""),
            Parameter(name="model_name", value=""),
            Parameter(name="dataset", value=""),
            Parameter(name="retraining", value=json.dumps(POLICY)),
        ],
    )
