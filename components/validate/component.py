"""The validate stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("validate"), install_kfp_package=False)
def validate(
    workspace: str,
    snapshot: str,
    report: dsl.Output[dsl.HTML],
    mode: str = "headers",
    on_error: str = "fail",
    checks: str = "",
    settings: dict = {},  # noqa: B006 - KFP reads the default from the signature
    shards: str = "",
    shard: str = "",
    run: str = "",
    trace_id: str = "",
    frozen_dataset: dsl.Input[dsl.Dataset] = None,
) -> NamedTuple("Report", [("receipt", str), ("errors", int), ("quarantined", int)]):  # type: ignore[valid-type]
    """Checks a snapshot's annotations and images, and says which are usable.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        snapshot: URI of the snapshot's receipt.
        mode: annotations (no image is read), headers, or full (every image is decoded).
        on_error: fail, or quarantine: leave the images with errors out.
        checks: What is another severity or threshold than by default, a JSON object or its URI.
        settings: The training's settings by name, as the snapshot component returns them: boxes are tiny or huge at its imgsz.
        shards: The number of shards whose results are put together, where they are all there.
        shard: The shard to compute alone, such as 2/8.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        frozen_dataset: The snapshot's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        errors: Number of errors found.
        quarantined: Number of images left out.
        report: The validation report as a page.
    """
    from visionloop.components.kubeflow import run_stage

    arguments = {"snapshot": snapshot, "mode": mode, "on_error": on_error, "checks": checks, "settings": settings}
    arguments |= {"shards": shards, "shard": shard}
    returns = ("errors", "quarantined")
    receipt, errors, quarantined = run_stage("validate", workspace, run, trace_id, arguments, (report,), returns)
    return receipt, errors or 0, quarantined or 0
