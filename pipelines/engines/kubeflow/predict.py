"""The predicting pipeline on Kubeflow Pipelines: a model that exists already, on images without labels."""

from typing import Any

from visionloop.components.calls import PREDICTED
from visionloop.components.predict.component import predict
from visionloop.pipelines.definitions import PREDICT
from visionloop.pipelines.engines.kubeflow.left_to_do import by_trainer
from visionloop.pipelines.engines.kubeflow.tasks import apply_policy, common_to
from visionloop.pipelines.engines.kubeflow.train import PipelineArguments, with_cleanup
from visionloop.pipelines.parameters import predict_form
from visionloop.pipelines.targets import Target


def predict_pipeline(target: Target) -> Any:
    """The pipeline for a target, a KFP graph component: compile it, or call it under ``kfp.local``."""

    def predicted(arguments: PipelineArguments) -> None:
        inputs = PREDICTED["predict"].arguments(arguments, {}) | common_to(arguments)
        for name, branch in by_trainer(target, arguments["trainer"]):
            with branch:
                apply_policy(predict(**inputs), "predict", target.row("predict", name), target)

    return with_cleanup(target, PREDICT, predict_form(target.trainers), predicted, "predicting")
