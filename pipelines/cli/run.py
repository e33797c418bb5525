"""``visionloop run``: a whole pipeline, on this machine or on an engine that is followed from here."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.pipelines import engines
from visionloop.pipelines.cli.beginning import started, trainer_of
from visionloop.pipelines.cli.ending import show_end
from visionloop.pipelines.cli.options import (
    FIRST_CLUSTER,
    FIRST_ENGINE,
    ClusterName,
    EngineName,
    Execution,
    Host,
    Measurement,
    Namespace,
    Prediction,
    Retraining,
    Training,
    flattened,
)
from visionloop.pipelines.cli.output import Format, Output, aligned, show
from visionloop.pipelines.environment import services_for

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


@application.command("evaluate")
@flattened
def evaluate(measurement: Measurement, execution: Execution, output: Output = None) -> None:
    """Measures a registered model or a checkpoint on a dataset, such as yesterday's champion on today's data; nothing is registered.

    Example: visionloop run evaluate --model sample-digits@champion --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo
    """
    engine, order = execution.order("measure", measurement.arguments())
    if order.options.get("runner"):
        raise InvalidConfig("run evaluate works in processes of this machine, or on an engine: leave out --runner.")
    if measurement.trainer and not engine.cluster:
        raise InvalidConfig(
            "--trainer is for an engine; here a registered model has its own, and a checkpoint takes --set trainer=NAME."
        )
    notice(started(engine, order))
    show_end(engine.run(order), output)


@application.command("predict")
@flattened
def predict(prediction: Prediction, execution: Execution, output: Output = None) -> None:
    """Predicts with a registered model on all images below a prefix, and keeps the results; of a handful see visionloop predict.

    Example: visionloop run predict --model sample-digits@champion --images s3://camera/2026 --workspace s3://visionloop/demo
    """
    engine, order = execution.order("predict", prediction.arguments())
    if order.options.get("runner"):
        raise InvalidConfig("run predict works in processes of this machine, or on an engine: leave out --runner.")
    notice(started(engine, order))
    show_end(engine.run(order), output)


@application.command("check")
@flattened
def check(training: Training, execution: Execution, output: Output = None) -> None:
    """Tries a training on one batch before hours are spent: the loss makes sense and falls, and gradients arrive everywhere.

    Takes the options of ``run train``, and the dataset as far as it does before the training; registers nothing.

    Example: visionloop run check --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml
    """
    from visionloop.pipelines.check import check_train

    engine, order = execution.order("train", training.arguments())
    if engine.name != FIRST_ENGINE or order.options:
        raise InvalidConfig(
            "run check works in processes of this machine: leave out --engine, --run, --force and --runner."
        )
    notice(trainer_of(engine, order))
    with services_for(order.arguments):
        checked = check_train(order.arguments, order.trace_id)
    rows = [(finding.check, finding.seen) for finding in checked.tried.findings]
    show(checked.summary(), aligned(("CHECK", "SEEN"), rows), output)


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


Run = Annotated[str, typer.Argument(help="The run, as the command that started it shows it.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--workspace", help="The run's workspace (default: as this machine remembers it, or the engine tells it)."
    ),
]


@application.command("stop")
def stop(
    run: Run,
    then: Annotated[
        Literal["evaluate"] | None,
        typer.Option(help="evaluate: evaluate and register the best so far (default: the run ends)."),
    ] = None,
    engine: EngineName = FIRST_ENGINE,
    namespace: Namespace = None,
    host: Host = None,
    workspace: Where = None,
    output: Output = None,
) -> None:
    """Stops a training after the epoch under way, and keeps the best. It counts until the run is started again.

    Example: visionloop run stop run-20260301-021407-7c0f12 --then evaluate
    """
    from visionloop.core.stop import Stop
    from visionloop.pipelines.stopping import stop_run

    place = engines.engine(engine).place(run, workspace=workspace, host=host, namespace=namespace)
    ended = stop_run(place, Stop(then or ""))
    after = "then the best so far is evaluated and registered" if then else "the best so far is kept"
    asked = f"run {run} stops its training after the epoch under way; {after}."
    show({"run": run, "stopped": ended is None, "ended": ended}, [_nothing(run, ended, "stop") or asked], output)


@application.command("cancel")
def cancel(
    run: Run,
    engine: EngineName = FIRST_ENGINE,
    namespace: Namespace = None,
    host: Host = None,
    workspace: Where = None,
    output: Output = None,
) -> None:
    """Ends a run at once; epochs that are done stay, and the same run or another one goes on from them.

    Example: visionloop run cancel run-20260301-021407-7c0f12
    """
    from visionloop.pipelines.stopping import cancel_run

    ended = cancel_run(run, engines.engine(engine), workspace=workspace, host=host, namespace=namespace)
    show(
        {"run": run, "cancelled": ended is None, "ended": ended},
        [_nothing(run, ended, "cancel") or f"run {run} is cancelled; start it again to resume."],
        output,
    )


def _nothing(run: str, ended: str | None, verb: str) -> str | None:
    """What is said of a run that has ended already."""
    return f"run {run} has ended: {ended}; nothing to {verb}" if ended else None


def _run(pipeline: str, training: Training, execution: Execution, output: Format | None) -> None:
    """Runs a pipeline on the chosen engine and prints how it ended."""
    engine, order = execution.order(pipeline, training.arguments())
    notice(started(engine, order))
    notice(trainer_of(engine, order))
    show_end(engine.run(order), output)
