"""KFP components that hand on a result which is there already: the other branch of a condition needs a task of its own."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("convert"), install_kfp_package=False)
def reuse_training(
    receipt: str, trained_model: dsl.Output[dsl.Model], training_metrics: dsl.Output[dsl.Metrics]
) -> NamedTuple("Training", [("receipt", str)]):  # type: ignore[valid-type]
    """Hands on a finished training with its artifacts; starts no GPU.

    Args:
        receipt: URI of the train receipt.

    Returns:
        receipt: URI of the receipt.
        trained_model: The training's receipt, with the checkpoints' URIs as metadata.
        training_metrics: The training's metrics.
    """
    from visionloop.components.kubeflow import reuse

    return reuse("train", receipt, (trained_model, training_metrics))


@dsl.component(base_image=base_image("convert"), install_kfp_package=False)
def reuse_evaluation(
    receipt: str,
    report: dsl.Output[dsl.HTML],
    evaluation_metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
) -> NamedTuple("Evaluation", [("receipt", str), ("verdict", str)]):  # type: ignore[valid-type]
    """Hands on a finished evaluation with its artifacts; starts no GPU.

    Args:
        receipt: URI of the evaluate receipt.

    Returns:
        receipt: URI of the receipt.
        verdict: promote, keep or reject.
        report: The evaluation report as a page.
        evaluation_metrics: The metrics on the held-out images.
        confusion_matrix: Predicted against true classes.
    """
    from visionloop.components.kubeflow import reuse

    return reuse("evaluate", receipt, (report, evaluation_metrics, confusion_matrix), ("verdict",))
