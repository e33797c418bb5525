"""The retraining pipeline on Kubeflow Pipelines: the training pipeline, with everything after snapshot on its decision."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kfp import dsl

from visionloop.components.snapshot.retraining.policy import SKIP
from visionloop.pipelines.definitions import RETRAIN, WORTH_IT
from visionloop.pipelines.engines.kubeflow.train import AfterSnapshot, PipelineArguments, after_snapshot, pipeline_of
from visionloop.pipelines.parameters import Parameter, form, takes
from visionloop.pipelines.targets import Target


def retrain_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""
    parameters, put_the_rest = form(target.trainers, RETRAIN.parameters), after_snapshot(target)

    def conditional(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        with dsl.If(snapshot["go"] != SKIP, name=WORTH_IT):
            put_the_rest(arguments, snapshot)

    return pipeline_of(target, RETRAIN, parameters, conditional if target.places else _nested(parameters, conditional))


def _nested(parameters: Mapping[str, Parameter], conditional: AfterSnapshot) -> AfterSnapshot:
    """The conditional part as a DAG of its own: kfp.local resolves a condition from its DAG's inputs only."""
    outputs = {
        "go": Parameter("go", str, None, "Snapshot's decision."),
        "receipt": Parameter("receipt", str, None, "URI of snapshot's receipt."),
        "settings": Parameter("settings", dict, None, "The settings that were given."),
        "frozen_dataset": Parameter("frozen_dataset", dsl.Input[dsl.Dataset], None, "Snapshot's artifact."),
    }
    inputs = outputs | {name: replace(parameter, default=None) for name, parameter in parameters.items()}

    @dsl.pipeline(name="retrain-if-worth-it")
    @takes("Retrains if snapshot's decision is to.", inputs)
    def retrain_if_worth_it(*values: Any) -> None:
        arguments = dict(zip(inputs, values, strict=True))
        conditional({name: arguments[name] for name in parameters}, {name: arguments[name] for name in outputs})

    def called(arguments: PipelineArguments, snapshot: Mapping[str, Any]) -> None:
        retrain_if_worth_it(**{name: snapshot[name] for name in outputs}, **arguments)

    return called
