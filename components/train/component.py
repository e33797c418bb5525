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
    settings: dict = {},  # noqa: B006 - KFP reads the default from the signature
    model_name: str = "",
    run_name: str = "",
    description: str = "",
    run: str = "",
    trace_id: str = "",
    converted_dataset: dsl.Input[dsl.Dataset] = None,
) -> NamedTuple("Training", [("receipt", str)]):  # type: ignore[valid-type]
    """Trains a model on a converted dataset, resuming whatever an earlier attempt left behind.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        converted: URI of the convert receipt.
        snapshot: URI of the snapshot's receipt: it says where the images are read from.
        settings: The settings by name, as the snapshot component returns them; those left out are resolved by the stage.
        model_name: The name the model will be registered under; for tracking only.
        run_name: A name for people; for tracking only.
        description: A description for people; for tracking only.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        converted_dataset: The converted dataset's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        trained_model: The training's receipt, with the checkpoints' URIs as metadata.
        training_metrics: The training's metrics.
    """
    from visionloop.components.kubeflow import run_stage

    arguments = {"converted": converted, "snapshot": snapshot, "settings": settings, "model_name": model_name}
    arguments |= {"run_name": run_name, "description": description}
    return run_stage("train", workspace, run, trace_id, arguments, (trained_model, training_metrics))
