"""The pipelines, whichever engine runs them: name, title, description and form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from visionloop.pipelines import parameters
from visionloop.pipelines.parameters import Parameter


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Attributes:
        name: Its name on an engine.
        title: Its name for people.
        description: What it does.
        parameters: The fields of its form by name.
    """

    name: str
    title: str
    description: str
    parameters: Mapping[str, Parameter]


TRAIN = Pipeline(
    "visionloop-train",
    "Visionloop: train",
    "Retrains a vision model from an annotated image dataset and registers it if it may serve.",
    parameters.TRAIN,
)

#: The training pipeline, run only if snapshot decides so.
RETRAIN = Pipeline(
    "visionloop-retrain",
    "Visionloop: retrain",
    "Retrains a vision model where its retraining policy says that it is worth its cost.",
    parameters.RETRAIN,
)

#: Measures a model that exists already; its command is `run evaluate`.
MEASURE = Pipeline(
    "visionloop-measure",
    "Visionloop: measure",
    "Measures a registered model or a checkpoint on a dataset; nothing is decided or registered.",
    parameters.MEASURE,
)

#: Predicts with a model that exists already on images without labels; its command is `run predict`.
PREDICT = Pipeline(
    "visionloop-predict",
    "Visionloop: predict",
    "Predicts with a registered model on all images below a prefix; nothing is trained or registered.",
    parameters.PREDICT,
)

#: The pipelines as the command line names them, in the order in which people see them.
PIPELINES: Mapping[str, Pipeline] = {"train": TRAIN, "retrain": RETRAIN, "measure": MEASURE, "predict": PREDICT}

#: The part of a retraining that depends on the decision: one DAG, so that one condition covers all of it.
WORTH_IT = "worth-retraining"
