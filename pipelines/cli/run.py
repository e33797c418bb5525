"""``visionloop run``: a whole pipeline, on this machine or on an engine that is followed from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from visionloop.core import texts
from visionloop.pipelines import engines
from visionloop.pipelines.cli.options import (
    FIRST_CLUSTER,
    ClusterName,
    Execution,
    Host,
    Namespace,
    Retraining,
    Training,
    flattened,
)

application = typer.Typer(no_args_is_help=True, help="Run a pipeline.", rich_markup_mode=None)


@application.callback()
def pipelines() -> None:
    """Run a pipeline."""


@application.command("train")
@flattened
def train(training: Training, execution: Execution) -> None:
    """Trains, evaluates and registers a model.

    Example: visionloop run train --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml
    """
    _run("train", training, execution)


@application.command("retrain")
@flattened
def retrain(training: Retraining, execution: Execution) -> None:
    """Trains as ``run train`` does, if the retraining policy says that it is worth it.

    Example: visionloop run retrain --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml --retraining '{"min_new_images": 50}'
    """
    _run("retrain", training, execution)


@application.command("follow")
def follow(
    run: Annotated[str, typer.Argument(help="The workflow's name (argo), the run's id or name (kfp).")],
    engine: ClusterName = FIRST_CLUSTER,
    namespace: Namespace = None,
    host: Host = None,
    workspace: Annotated[
        str | None, typer.Option(help="The run's workspace (default: as the engine tells it).")
    ] = None,
) -> None:
    """Follows a run that an engine has taken, to its end.

    Example: visionloop run follow visionloop-train-x7k2p --engine argo
    """
    from visionloop.pipelines.following.follow import follow

    remote = engines.engine(engine).find(run, host=host, namespace=namespace)
    _print(follow(remote, workspace or str(remote.arguments.get("workspace") or ""), remote.arguments))


def _run(pipeline: str, training: Training, execution: Execution) -> None:
    """Runs a pipeline on the chosen engine and prints its summary."""
    engine, order = execution.order(pipeline, training.arguments())
    _print(engine.run(order))


def _print(summary: Mapping[str, Any]) -> None:
    print(texts.json_line(summary))  # noqa: T201
