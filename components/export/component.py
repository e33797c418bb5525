"""The export stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("export"), install_kfp_package=False)
def export(
    workspace: str,
    evaluation: str,
    exported_model: dsl.Output[dsl.Model],
    export: str = "",
    run: str = "",
    trace_id: str = "",
    evaluation_metrics: dsl.Input[dsl.Metrics] = None,
) -> NamedTuple("Export", [("receipt", str)]):  # type: ignore[valid-type]
    """Writes a model in other formats, runs each file beside the model on the same images, and accepts what finds the same.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        evaluation: URI of the evaluate receipt.
        export: The formats, separated by commas; empty makes no export, and ends at once.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        evaluation_metrics: The evaluation's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt that names the exports; empty without one.
        exported_model: That receipt, with what became of each format as metadata.
    """
    from visionloop.components.kubeflow import run_stage

    arguments = {"evaluation": evaluation, "export": export}
    return run_stage("export", workspace, run, trace_id, arguments, (exported_model,))
