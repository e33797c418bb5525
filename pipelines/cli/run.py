"""``visionloop run``: a whole pipeline, on this machine or on an engine that is followed from here."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.logs import notice
from visionloop.pipelines import engines
from visionloop.pipelines.cli.beginning import started, trainer_of
from visionloop.pipelines.cli.ending import show_end
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
from visionloop.pipelines.cli.output import Format, Output

application = typer.Typer(no_args_is_help=True, help="Run a pipeline.", rich_markup_mode=None)


@application.callback()
def pipelines() -> None:
    """Run a pipeline."""


@application.command("train")
@flattened
def train(training: Training, execution: Execution, output: Output = None) -> None:
    """Trains, evaluates and registers a model.

    Example: visionloop run train --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml
    """
    _run("train", training, execution, output)


@application.command("retrain")
@flattened
def retrain(training: Retraining, execution: Execution, output: Output = None) -> None:
    """Trains as ``run train`` does, if the retraining policy says that it is worth it.

    Example: visionloop run retrain --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml --retraining '{"min_new_images": 50}'
    """
    _run("retrain", training, execution, output)


@application.command("follow")
def follow(
    run: Annotated[
        str, typer.Argument(help="The run's name or id on the engine, as the command that started it shows it.")
    ],
    engine: ClusterName = FIRST_CLUSTER,
    namespace: Namespace = None,
    host: Host = None,
    workspace: Annotated[
        str | None, typer.Option(help="The run's workspace (default: as the engine tells it).")
    ] = None,
    output: Output = None,
) -> None:
    """Follows a run that an engine has taken, to its end.

    Example: visionloop run follow visionloop-train-x7k2p --engine argo
    """
    from visionloop.pipelines.following.follow import follow

    remote = engines.engine(engine).find(run, host=host, namespace=namespace)
    address = workspace or str(remote.arguments.get("workspace") or "")
    show_end(follow(remote, address, remote.arguments), output)


def _run(pipeline: str, training: Training, execution: Execution, output: Format | None) -> None:
    """Runs a pipeline on the chosen engine and prints how it ended."""
    engine, order = execution.order(pipeline, training.arguments())
    notice(started(engine, order))
    notice(trainer_of(engine, order))
    show_end(engine.run(order), output)
