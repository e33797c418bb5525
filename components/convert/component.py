"""The convert stage as a KFP component, which also looks ahead for results of the expensive stages after it."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("convert"), install_kfp_package=False)
def convert(
    workspace: str,
    snapshot: str,
    report: str,
    converted_dataset: dsl.Output[dsl.Dataset],
    look_ahead: bool = False,
    shards: str = "",
    shard: str = "",
    settings: dict = {},  # noqa: B006 - KFP reads the default from the signature
    model_name: str = "",
    gate: str = "",
    slices: str = "",
    costs: str = "",
    run: str = "",
    trace_id: str = "",
    frozen_dataset: dsl.Input[dsl.Dataset] = None,
) -> NamedTuple(  # type: ignore[valid-type]
    "Converted",
    [
        ("receipt", str),
        ("next", str),
        ("training_receipt", str),
        ("evaluation_receipt", str),
        ("verdict", str),
        ("reason", str),
        ("evaluation_metrics", str),
    ],
):
    """Converts a snapshot's annotations to YOLO labels or an image folder's layout.

    With look_ahead it also says whether the training that its other arguments describe is there already.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        snapshot: URI of the snapshot's receipt.
        report: URI of the validate receipt.
        look_ahead: Whether to look for the training and its evaluation, as settings, model_name, gate, slices and costs describe them.
        shards: The number of shards whose results are put together, where they are all there.
        shard: The shard to compute alone, such as 2/8.
        settings: As train takes it.
        model_name: As evaluate takes it.
        gate: As evaluate takes it.
        slices: As evaluate takes it.
        costs: As evaluate takes it.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        frozen_dataset: The snapshot's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        next: What is left to do: train, evaluate, register or nothing; empty without look_ahead.
        training_receipt: URI of the training's receipt if it is there already, else empty.
        evaluation_receipt: URI of that training's evaluation if it is there already, else empty.
        verdict: That evaluation's verdict, else empty.
        reason: Why, with the figures.
        evaluation_metrics: That evaluation's metrics as a JSON object, else empty.
        converted_dataset: The converted dataset's receipt, with its URIs as metadata.
    """
    from visionloop.components.kubeflow import look_ahead_arguments, run_stage

    ahead = look_ahead_arguments(settings, model_name, gate, slices, costs) if look_ahead else None
    arguments = {"snapshot": snapshot, "report": report, "shards": shards, "shard": shard}
    returns = ("next", "training_receipt", "evaluation_receipt", "verdict", "reason", "evaluation_metrics")
    return run_stage("convert", workspace, run, trace_id, arguments, (converted_dataset,), returns, ahead)
