"""KFP components that hand on an existing result: the other branch of a condition needs a task of its own."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("convert"), install_kfp_package=False)
def reuse_training(
    receipt: str,
    trained_model: dsl.Output[dsl.Model],
    training_metrics: dsl.Output[dsl.Metrics],
    workspace: str = "",
    run: str = "",
    converted_dataset: dsl.Input[dsl.Dataset] = None,
) -> NamedTuple("Training", [("receipt", str)]):  # type: ignore[valid-type]
    """Hands on a finished training with its artifacts; starts no GPU.

    Args:
        receipt: URI of the train receipt.
        workspace: Where results lie; with it and run a failure stands in the run's record.
        run: The run that this task belongs to.
        converted_dataset: The converted dataset's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        trained_model: The training's receipt, with the checkpoints' URIs as metadata.
        training_metrics: The training's metrics.
    """
    from visionloop.components.kubeflow import reuse

    return reuse("train", receipt, (trained_model, training_metrics), (), workspace, run)


@dsl.component(base_image=base_image("convert"), install_kfp_package=False)
def reuse_evaluation(
    receipt: str,
    report: dsl.Output[dsl.HTML],
    evaluation_metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    workspace: str = "",
    run: str = "",
    trained_model: dsl.Input[dsl.Model] = None,
) -> NamedTuple("Evaluation", [("receipt", str), ("verdict", str)]):  # type: ignore[valid-type]
    """Hands on a finished evaluation with its artifacts; starts no GPU.

    Args:
        receipt: URI of the evaluate receipt.
        workspace: Where results lie; with it and run a failure stands in the run's record.
        run: The run that this task belongs to.
        trained_model: The training's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        verdict: promote, keep or reject.
        report: The evaluation report as a page.
        evaluation_metrics: The metrics on the held-out images.
        confusion_matrix: Predicted against true classes.
    """
    from visionloop.components.kubeflow import reuse

    artifacts = (report, evaluation_metrics, confusion_matrix)
    return reuse("evaluate", receipt, artifacts, ("verdict",), workspace, run)
