"""The predict stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("predict"), install_kfp_package=False)
def predict(
    workspace: str,
    model: str,
    images: str,
    predictions: dsl.Output[dsl.Dataset],
    confidence: str = "",
    write: str = "",
    tile: str = "",
    run: str = "",
    trace_id: str = "",
) -> NamedTuple("Prediction", [("receipt", str), ("objects", int), ("unreadable", int)]):  # type: ignore[valid-type]
    """Predicts with a registered model on all images below a prefix, shard after shard.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        model: The model: NAME/VERSION or NAME@ALIAS of the registry, with or without models:/ before it.
        images: Where the images lie: s3://bucket/prefix, file:///folder or a path; all below it count.
        confidence: The least confidence of an object, from 0 to 1; empty takes the model's operating point.
        write: What is written beside the tables, separated by commas: coco, dice; empty writes neither.
        tile: The side of the tiles in pixels that large images are looked at in as well; empty looks at them as a whole alone.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.

    Returns:
        receipt: URI of the receipt.
        objects: How many objects were found.
        unreadable: How many images can't be read.
        predictions: The receipt, with the tables' URIs as metadata.
    """
    from visionloop.components.kubeflow import run_stage

    arguments = {"model": model, "images": images, "confidence": confidence, "write": write, "tile": tile}
    return run_stage("predict", workspace, run, trace_id, arguments, (predictions,), ("objects", "unreadable"))
