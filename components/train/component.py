"""The train stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("train"), install_kfp_package=False)
def train(
    workspace: str,
    converted: str,
    snapshot: str,
    trained_model: dsl.Output[dsl.Model],
    training_metrics: dsl.Output[dsl.Metrics],
    model_name: str = "",
    run_name: str = "",
    description: str = "",
    trainer: str = "ultralytics",
    model: str = "yolo11n",
    imgsz: int = 640,
    epochs: int = 100,
    batch: int = 16,
    lr0: float = 0.01,
    optimizer: str = "SGD",
    augment: bool = True,
    primary_metric: str = "mAP50-95",
    primary_metric_mode: str = "max",
    advanced_config: dict = {},  # noqa: B006 - KFP reads the default from the signature
    run: str = "",
    trace_id: str = "",
    converted_dataset: dsl.Input[dsl.Dataset] = None,
) -> NamedTuple("Training", [("receipt", str)]):  # type: ignore[valid-type]
    """Trains a model on a converted dataset, resuming whatever an earlier attempt left behind.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        converted: URI of the convert receipt.
        snapshot: URI of the snapshot's receipt: it says where the images are read from.
        model_name: The name the model will be registered under; for tracking only.
        run_name: A name for people; for tracking only.
        description: A description for people; for tracking only.
        trainer: The training library, by the name of its entry point.
        model: Starting weights: a bare name, a path, a URI, models:/NAME@alias, or an architecture's YAML name.
        imgsz: Side of the square input in pixels, a multiple of 32.
        epochs: Passes over the training images.
        batch: Images in a batch.
        lr0: Learning rate at the start.
        optimizer: Name of the optimizer.
        augment: false switches off the training augmentations that are not set one by one.
        primary_metric: Metric that decides the best epoch and early stopping.
        primary_metric_mode: max or min: whether a larger or a smaller primary metric is better.
        advanced_config: Further settings of the trainer, an object.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        converted_dataset: The converted dataset's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        trained_model: The training's receipt, with the checkpoints' URIs as metadata.
        training_metrics: The training's metrics.
    """
    from visionloop.components.kubeflow import run_stage, settings

    form = {"trainer": trainer, "model": model, "imgsz": imgsz, "epochs": epochs, "batch": batch, "lr0": lr0}
    form |= {"optimizer": optimizer, "augment": augment, "primary_metric": primary_metric}
    form |= {"primary_metric_mode": primary_metric_mode, "advanced_config": advanced_config}
    given = {"converted": converted, "snapshot": snapshot, "set": settings(form), "model_name": model_name}
    given |= {"run_name": run_name, "description": description}
    return run_stage("train", workspace, run, trace_id, given, (trained_model, training_metrics))
