"""The evaluate stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("evaluate"), install_kfp_package=False)
def evaluate(
    workspace: str,
    snapshot: str,
    report: dsl.Output[dsl.HTML],
    evaluation_metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    training: str = "",
    model_name: str = "",
    gate: str = "",
    slices: str = "",
    costs: str = "",
    model: str = "",
    converted: str = "",
    split_name: str = "",
    settings: dict = {},  # noqa: B006 - KFP reads the default from the signature
    tile: str = "",
    run: str = "",
    trace_id: str = "",
    trained_model: dsl.Input[dsl.Model] = None,
) -> NamedTuple(  # type: ignore[valid-type]
    "Evaluation", [("receipt", str), ("verdict", str), ("reason", str), ("metrics", str)]
):
    """Measures a trained model on the held-out images and decides by the gate whether it may serve, or only measures one that exists.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        snapshot: URI of the snapshot's receipt: it says where the images are read from.
        training: URI of the train receipt.
        model_name: The registered model whose champion it is compared with.
        gate: The gate as a JSON object, or the URI of a file with one; empty takes no floor and epsilon 0.
        slices: Fields by which images are sliced: metadata.KEY, attributes.KEY, separated by commas.
        costs: What a missed object and a false alarm cost, as a JSON object, or the URI of a file with one; empty takes confidence 0.25.
        model: In place of a training, a model that is only measured: NAME/VERSION, NAME@ALIAS, or a checkpoint's URI.
        converted: With model, URI of the convert receipt.
        split_name: With model, the split that is measured: train, val or test; empty takes test.
        settings: With a checkpoint as model, how it is measured: trainer, imgsz, batch, conf, iou, max_det, single_cls.
        tile: With model, the side of the tiles in pixels that large images are looked at in as well; empty looks at them as a whole alone.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        trained_model: The training's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        verdict: promote, keep or reject; none with model.
        reason: Why, with the figures.
        metrics: The metrics on the held-out images as a JSON object.
        report: The evaluation report as a page.
        evaluation_metrics: The metrics on the held-out images, COCO's figures, mistakes by kind, calibration and latency.
        confusion_matrix: Predicted against true classes, and the ROC curve of the detections: confidence against being right.
    """
    import json

    from visionloop.components.kubeflow import run_stage

    arguments = {"training": training, "snapshot": snapshot, "model_name": model_name, "gate": gate, "slices": slices}
    arguments |= {"costs": costs}
    measured = {
        "model": model,
        "converted": converted,
        "split_name": split_name,
        "settings": settings or "",
        "tile": tile,
    }
    artifacts = (report, evaluation_metrics, confusion_matrix)
    returns = ("verdict", "reason", "metrics")
    receipt, verdict, reason, metrics = run_stage(
        "evaluate", workspace, run, trace_id, {**arguments, **measured}, artifacts, returns
    )
    return receipt, verdict, reason, json.dumps(metrics)
