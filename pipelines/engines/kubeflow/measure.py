"""The measuring pipeline on Kubeflow Pipelines: a model that exists already, on a dataset."""

from collections.abc import Mapping
from typing import Any

from visionloop.components.calls import MEASURED
from visionloop.components.evaluate.component import evaluate
from visionloop.pipelines.definitions import MEASURE
from visionloop.pipelines.engines.kubeflow.left_to_do import by_trainer
from visionloop.pipelines.engines.kubeflow.tasks import apply_policy, common_to
from visionloop.pipelines.engines.kubeflow.train import PipelineArguments, checked_and_converted, pipeline_of
from visionloop.pipelines.parameters import measure_form
from visionloop.pipelines.targets import Target


def measure_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""

    def measured(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        receipts = {"snapshot": snapshot["receipt"]}
        checked_and_converted(target, MEASURED, arguments, snapshot, receipts)
        inputs = MEASURED["evaluate"].arguments(arguments, receipts) | common_to(arguments)
        for name, branch in by_trainer(target, arguments["trainer"]):
            with branch:
                apply_policy(evaluate(**inputs), "evaluate", target.row("evaluate", name), target)

    return pipeline_of(target, MEASURE, measure_form(target.trainers), measured, frozen)


def frozen(arguments: PipelineArguments) -> dict[str, Any]:
    """Snapshot's arguments: no training's settings are checked."""
    return MEASURED["snapshot"].arguments(arguments, {}) | {"trains": False}
