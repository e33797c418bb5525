"""The snapshot stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("snapshot"), install_kfp_package=False)
def snapshot(
    workspace: str,
    frozen_dataset: dsl.Output[dsl.Dataset],
    dataset: str = "",
    snapshot: str = "",
    task: str = "",
    split: str = "",
    model_name: str = "",
    retraining: str = "",
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
    gate: str = "",
    dataset_format: str = "",
    classes: str = "",
    where: str = "",
    checks: str = "",
    shards: str = "",
    slices: str = "",
    costs: str = "",
    export: str = "",
    trains: bool = True,
    run: str = "",
    trace_id: str = "",
) -> NamedTuple(  # type: ignore[valid-type]
    "Snapshot",
    [("receipt", str), ("snapshot_id", str), ("go", str), ("reason", str), ("shards", list), ("settings", dict)],
):
    """Freezes a dataset: what it holds, its task and its split; no image is copied.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        dataset: The dataset, as it lies: s3://…, file://… or a path; several as a JSON list of URIs, or of objects (uri, name, weight).
        snapshot: An earlier snapshot to use again (snap_…) in place of a dataset.
        task: detection, segmentation, classification or pose; empty when the dataset has only one.
        split: train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD|folder|regex:PATTERN], fold=2/5, time=FIELD,val=DATE,test=DATE or test=val.
        model_name: The name the model will be registered under; its champion is what retraining compares with.
        retraining: The retraining policy as a JSON object, or the URI of a file with one; empty goes on in any case.
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
        gate: The gate as evaluate takes it; like the settings and the model's name it is checked before the dataset is read.
        dataset_format: The format to read the dataset as: dice, coco, yolo, folders, voc, labelstudio or cvat; empty recognises it.
        classes: The classes as a JSON object (ignore, drop, keep, rename), or the URI of a file with one; empty takes all as they are.
        where: Which images and objects count, such as split != 'train' or metadata.source == 'night'; empty takes all.
        slices: The slices as evaluate takes them; like the gate they are checked before the dataset is read.
        costs: The costs as evaluate takes them, checked like these.
        checks: The checks as validate takes them; like the gate they are checked before the dataset is read.
        export: The formats as export takes them, checked like these.
        shards: In how many shards validate and convert will be done; empty in none.
        trains: false where the run only measures a model: then there are no settings to check.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.

    Returns:
        receipt: URI of the receipt.
        snapshot_id: snap_ and 12 hex digits over content and split.
        go: true, or false where the retraining policy says that the run is not worth its cost.
        reason: Why, with the figures.
        shards: The shards, such as 1/2 and 2/2; none where shards is empty.
        settings: The settings that were given, as convert and train take them.
        frozen_dataset: The snapshot's receipt, with its URIs as metadata.
    """
    from visionloop.components.kubeflow import given_settings, run_stage

    form = {"trainer": trainer, "model": model, "imgsz": imgsz, "epochs": epochs, "batch": batch, "lr0": lr0}
    form |= {"optimizer": optimizer, "augment": augment, "primary_metric": primary_metric}
    form |= {"primary_metric_mode": primary_metric_mode, "advanced_config": advanced_config}
    arguments = {"dataset": dataset, "snapshot": snapshot, "task": task, "split": split}
    settings = given_settings(form) if trains else {}
    checked = {"settings": settings} if trains else {}
    arguments |= {"model_name": model_name, "retraining": retraining, "gate": gate, "dataset_format": dataset_format}
    arguments |= {"classes": classes, "where": where, "checks": checks, "shards": shards, "slices": slices}
    arguments |= {"costs": costs, "export": export}
    returns = ("snapshot_id", "go", "reason", "shards")
    done = run_stage("snapshot", workspace, run, trace_id, {**arguments, **checked}, (frozen_dataset,), returns)
    return (*done[:-1], done[-1] or [], settings)
