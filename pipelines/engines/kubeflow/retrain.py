"""The retraining pipeline on Kubeflow Pipelines: the training pipeline, everything after snapshot on its decision."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kfp import dsl

from visionloop.components.snapshot.retraining.policy import SKIP
from visionloop.pipelines.definitions import RETRAIN, WORTH_IT
from visionloop.pipelines.engines.kubeflow.train import Given, after_snapshot, pipeline_of
from visionloop.pipelines.parameters import Parameter, form, takes
from visionloop.pipelines.targets import Target

#: Puts everything after snapshot: from the parameters, the decision, the receipt's URI and the artifact.
Rest = Callable[[Given, Any, Any, Any], None]


def retrain_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""
    parameters, put_the_rest = form(target.trainers, RETRAIN.parameters), after_snapshot(target)

    def conditional(given: Given, go: Any, frozen: Any, frozen_dataset: Any) -> None:
        with dsl.If(go != SKIP, name=WORTH_IT):
            put_the_rest(given, frozen, frozen_dataset)

    rest = conditional if target.places else _nested(parameters, conditional)

    def go_on(given: Given, snapshot: Any) -> None:
        outputs = snapshot.outputs
        rest(given, outputs["go"], outputs["receipt"], outputs["frozen_dataset"])

    return pipeline_of(target, RETRAIN, parameters, go_on)


def _nested(parameters: Mapping[str, Parameter], conditional: Rest) -> Rest:
    """The conditional part as a DAG of its own: kfp.local resolves a condition from its DAG's inputs only."""
    told = {
        "go": Parameter("go", str, None, "Snapshot's decision."),
        "frozen": Parameter("frozen", str, None, "URI of snapshot's receipt."),
        "frozen_dataset": Parameter("frozen_dataset", dsl.Input[dsl.Dataset], None, "Its artifact."),
    }
    inputs = told | {name: replace(parameter, default=None) for name, parameter in parameters.items()}

    @dsl.pipeline(name="retrain-if-worth-it")
    @takes("Retrains if snapshot's decision is to.", inputs)
    def retrain_if_worth_it(go: Any, frozen: Any, frozen_dataset: Any, *values: Any) -> None:
        conditional(dict(zip(parameters, values, strict=True)), go, frozen, frozen_dataset)

    def called(given: Given, go: Any, frozen: Any, frozen_dataset: Any) -> None:
        retrain_if_worth_it(go=go, frozen=frozen, frozen_dataset=frozen_dataset, **given)

    return called
