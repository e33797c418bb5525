"""The cleanup stage as a KFP component, the exit task of every pipeline."""

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("cleanup"), install_kfp_package=False)
def cleanup(workspace: str, status: dsl.PipelineTaskFinalStatus, run: str = "", trace_id: str = ""):  # type: ignore[no-untyped-def]
    """Removes what a run left behind; runs whatever happened before.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        status: The engine's final status of what ran before.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
    """
    from visionloop.components.kubeflow import run_stage

    print("The engine's final status:", status.state)  # noqa: T201
    arguments = {"engine_status": status.state, "engine_failure": status.error_message or ""}
    run_stage("cleanup", workspace, run, trace_id, arguments)
