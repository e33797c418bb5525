"""The register stage as a KFP component."""

from typing import NamedTuple

from kfp import dsl

from visionloop.components.kubeflow import base_image


@dsl.component(base_image=base_image("register"), install_kfp_package=False)
def register(
    workspace: str,
    evaluation: str,
    model_name: str,
    registered_model: dsl.Output[dsl.Model],
    model_card: dsl.Output[dsl.Markdown],
    storage: str = "",
    approve: str = "",
    exports: str = "",
    run: str = "",
    trace_id: str = "",
    evaluation_metrics: dsl.Input[dsl.Metrics] = None,
) -> NamedTuple("Registration", [("receipt", str), ("version", str), ("alias", str)]):  # type: ignore[valid-type]
    """Registers an evaluated model in MLflow and moves the alias that the verdict gives it.

    Args:
        workspace: Where results lie: s3://bucket/prefix, file:///folder or a path.
        evaluation: URI of the evaluate receipt.
        model_name: The name to register the model under.
        storage: Where the model's files go; empty takes models/NAME/VERSION/ in the workspace.
        approve: Who makes a model the champion that the gate promotes: auto or manual; empty takes auto.
        exports: URI of the export receipt; empty without an export.
        run: The run that this stage belongs to; empty makes a new one.
        trace_id: The trace id; empty takes the run's.
        evaluation_metrics: The evaluation's artifact, for the lineage only.

    Returns:
        receipt: URI of the receipt.
        version: The registered version.
        alias: champion or challenger.
        registered_model: The registration's receipt, with name, version and URIs as metadata.
        model_card: What the model is, what it was trained on and how good it is.
    """
    from visionloop.components.kubeflow import run_stage

    arguments = {"evaluation": evaluation, "model_name": model_name, "storage": storage, "approve": approve}
    arguments |= {"exports": exports}
    artifacts, returns = (registered_model, model_card), ("version", "alias")
    receipt, version, alias = run_stage("register", workspace, run, trace_id, arguments, artifacts, returns)
    return receipt, str(version), alias
