"""The evaluate stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("evaluate"), install_kfp_package=False)
def evaluate(
    workspace: str,
    training: str,
    snapshot: str,
    model_name: str,
    report: dsl.Output[dsl.HTML],
    evaluation_metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    gate: str = "",
    slices: str = "",
    run: str = "",
    trace_id: str = "",
    trained_model: dsl.Input[dsl.Model] = None,
) -> NamedTuple(  # type: ignore[valid-type]
    "Evaluation", [("receipt", str), ("verdict", str), ("reason", str), ("metrics", str)]
):
    """Measures a trained model on the held-out images and decides by the gate whether it may serve.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        training: URI of the train receipt.
        snapshot: URI of the snapshot's receipt: it says where the images are read from.
        model_name: The registered model whose champion it is compared with.
        gate: The gate as a JSON object, or the URI of a file with one; empty takes no floor and epsilon 0.
        slices: Fields by which images are sliced: metadata.KEY, attributes.KEY, separated by commas.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        trained_model: The training's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        verdict: promote, keep or reject.
        reason: Why, with the figures.
        metrics: The metrics on the held-out images as a JSON object.
        report: The evaluation report as a page.
        evaluation_metrics: The metrics on the held-out images.
        confusion_matrix: Predicted against true classes, and the ROC curve of the detections: confidence against being right.
    """
    import json

    from visionloop.components.kubeflow import run_stage

    arguments = {"training": training, "snapshot": snapshot, "model_name": model_name, "gate": gate, "slices": slices}
    artifacts = (report, evaluation_metrics, confusion_matrix)
    returns = ("verdict", "reason", "metrics")
    receipt, verdict, reason, metrics = run_stage("evaluate", workspace, run, trace_id, arguments, artifacts, returns)
    return receipt, verdict, reason, json.dumps(metrics)
