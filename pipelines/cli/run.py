"""``visionloop run``: a whole pipeline, on this machine or on an engine that is followed from here."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from visionloop.components.evaluate.gate import resolve_gate
from visionloop.components.snapshot.retraining.policy import parse_policy
from visionloop.components.train.stage import parse_settings
from visionloop.core import names, runs
from visionloop.core.errors import Defect, InvalidConfig, Terminated, UserStopped, VisionloopError
from visionloop.core.stores import normalise_uri
from visionloop.pipelines.completion import completed
from visionloop.pipelines.engines.laptop import LocalRun, RunResult, run_pipeline
from visionloop.pipelines.engines.laptop.runner import RUNNERS, SUBPROCESS
from visionloop.pipelines.environment import services_for
from visionloop.pipelines.following.state import RemoteRun
from visionloop.pipelines.parameters import RETRAIN, arguments_for
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.targets import STAGES
from visionloop.training.configuration.settings import BASIC

#: What makes each pipeline in the runner's process.
PIPELINES = {
    "train": "visionloop.pipelines.engines.kubeflow.train:train_pipeline",
    "retrain": "visionloop.pipelines.engines.kubeflow.retrain:retrain_pipeline",
}


class Engine(enum.StrEnum):
    """Where a pipeline runs."""

    LOCAL = "local"
    ARGO = "argo"
    KFP = "kfp"


@dataclass(frozen=True)
class Place:
    """Where a pipeline is to run, as the command line says it."""

    engine: Engine = Engine.LOCAL
    namespace: str | None = None
    host: str | None = None
    parameters: tuple[str, ...] = ()
    detach: bool = False
    runner: str = SUBPROCESS


Dataset = Annotated[str | None, typer.Option(help="The DICE dataset: s3://…, file://… or a path.")]
Snapshot = Annotated[str | None, typer.Option(help="An earlier snapshot (snap_…) in place of a dataset.")]
Workspace = Annotated[str, typer.Option(help="Where results lie: s3://bucket/prefix, file:///folder or a path.")]
ModelName = Annotated[str, typer.Option(help="The name to register the model under.")]
Task = Annotated[str | None, typer.Option(help="detection, segmentation, classification or pose.")]
Split = Annotated[str | None, typer.Option(help="train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD].")]
RunName = Annotated[str | None, typer.Option(help="A name for people.")]
Description = Annotated[str | None, typer.Option(help="A description for people.")]
Gate = Annotated[str | None, typer.Option(help="The gate: a JSON file, or its text.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A training setting, KEY=VALUE; may be given many times.")
]
Force = Annotated[str | None, typer.Option(help="A stage to compute again although there is a receipt.")]
Run = Annotated[str | None, typer.Option(help="The run's id (default: JOB_ID, else a new one).")]
TraceId = Annotated[str | None, typer.Option(help="The trace id (default: TRACE_ID, else a new one).")]

EngineName = Annotated[Engine, typer.Option("--engine", help="Where it runs: local (this machine), argo or kfp.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        help="argo: the namespace (default: ARGO_NAMESPACE, else visionloop); kfp: the user's, if there are any."
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        help="argo: the address of Argo's server (default: ARGO_SERVER, else the Kubernetes API is asked); kfp: the server's."
    ),
]
Runner = Annotated[str, typer.Option(help=f"What a stage is on this machine: {' or '.join(RUNNERS)}.")]
Detach = Annotated[bool, typer.Option("--detach", help="argo, kfp: submit and do not follow.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", help="argo: a parameter that only Argo's form has, such as gpus=0; may be given many times."
    ),
]
Retraining = Annotated[str | None, typer.Option(help="The retraining policy: a JSON or YAML file, or its text.")]

application = typer.Typer(no_args_is_help=True, help="Run a pipeline.", rich_markup_mode=None)


@application.callback()
def pipelines() -> None:
    """Run a pipeline."""


@application.command("train")
def train(
    workspace: Workspace,
    model_name: ModelName,
    dataset: Dataset = None,
    snapshot: Snapshot = None,
    task: Task = None,
    split: Split = None,
    run_name: RunName = None,
    description: Description = None,
    gate: Gate = None,
    settings: Settings = None,
    force: Force = None,
    run: Run = None,
    trace_id: TraceId = None,
    engine: EngineName = Engine.LOCAL,
    namespace: Namespace = None,
    host: Host = None,
    parameters: Parameters = None,
    detach: Detach = False,
    runner: Runner = SUBPROCESS,
) -> None:
    """Trains, evaluates and registers a model.

    Example: visionloop run train --dataset s3://datasets/digits --workspace s3://visionloop/results --model-name digits
    """
    arguments = pipeline_arguments(
        dataset=dataset,
        snapshot=snapshot,
        workspace=workspace,
        model_name=model_name,
        task=task,
        split=split,
        run_name=run_name,
        description=description,
        gate=gate,
        settings=settings or [],
    )
    place = Place(engine, namespace, host, tuple(parameters or ()), detach, runner)
    _run("train", arguments, place, run=run, trace_id=trace_id, force=force)


@application.command("retrain")
def retrain(
    workspace: Workspace,
    model_name: ModelName,
    dataset: Dataset = None,
    snapshot: Snapshot = None,
    retraining: Retraining = None,
    task: Task = None,
    split: Split = None,
    run_name: RunName = None,
    description: Description = None,
    gate: Gate = None,
    settings: Settings = None,
    force: Force = None,
    run: Run = None,
    trace_id: TraceId = None,
    engine: EngineName = Engine.LOCAL,
    namespace: Namespace = None,
    host: Host = None,
    parameters: Parameters = None,
    detach: Detach = False,
    runner: Runner = SUBPROCESS,
) -> None:
    """Trains as ``run train`` does, if the retraining policy says that it is worth it.

    Example: visionloop run retrain --dataset s3://datasets/digits --workspace s3://visionloop/results --model-name digits --retraining policy.yaml
    """
    arguments = pipeline_arguments(
        dataset=dataset,
        snapshot=snapshot,
        workspace=workspace,
        model_name=model_name,
        task=task,
        split=split,
        run_name=run_name,
        description=description,
        gate=gate,
        settings=settings or [],
    )
    if retraining:
        arguments["retraining"] = policy_text(retraining)
    place = Place(engine, namespace, host, tuple(parameters or ()), detach, runner)
    _run("retrain", arguments, place, run=run, trace_id=trace_id, force=force)


@application.command("follow")
def follow(
    run: Annotated[str, typer.Argument(help="The workflow's name (argo), the run's id or name (kfp).")],
    engine: Annotated[Engine, typer.Option("--engine", help="Where it runs: argo or kfp.")] = Engine.ARGO,
    namespace: Namespace = None,
    host: Host = None,
    workspace: Annotated[
        str | None, typer.Option(help="The run's workspace (default: as the engine tells it).")
    ] = None,
) -> None:
    """Follows a run that an engine has taken, to its end.

    Example: visionloop run follow visionloop-train-x7k2p --engine argo
    """
    if engine is Engine.LOCAL:
        raise InvalidConfig("--engine local: a run on this machine is followed where it was started; give argo or kfp.")
    found = _engine(engine).find(run, host=host, namespace=namespace)
    _follow(found, workspace or str(found.arguments.get("workspace") or ""), found.arguments)


def pipeline_arguments(*, settings: list[str], gate: str | None, **given: str | None) -> dict[str, Any]:
    """A pipeline's arguments from the command line's; what is wrong before anything starts is refused here.

    Raises:
        InvalidConfig: If neither or both of dataset and snapshot are given, or a URI, name, gate or setting can't be used.
    """
    if bool(given.get("dataset")) == bool(given.get("snapshot")):
        raise InvalidConfig("Give either --dataset (a URI) or --snapshot (snap_…).")
    names.sanitise(str(given["model_name"]))
    found = {name: value for name, value in given.items() if value}
    for name in ("workspace", "dataset"):
        if given.get(name) is not None:
            found[name] = normalise_uri(str(given[name]))
    if gate:
        found["gate"] = gate_text(gate)
        if "://" not in gate:
            # A mistake in it costs a sentence here, and a whole training later on.
            resolve_gate(found["gate"], str(BASIC["primary_metric"].default), "max")
    return {**found, **arguments_for(parse_settings(settings))}


def gate_text(gate: str) -> str:
    """The gate as an argument of the pipeline: JSON text as it is, a file of this machine by its content, a URI as it is."""
    return _file_text(gate, "--gate", "JSON")


def policy_text(retraining: str) -> str:
    """The retraining policy as an argument of the pipeline, made as the gate's.

    Raises:
        InvalidConfig: If it can't be read, or is no policy.
    """
    found = _file_text(retraining, "--retraining", "JSON or YAML")
    if "://" in retraining and found == retraining:
        return found
    # As JSON, whatever it was written in: the same policy is the same argument.
    return msgspec.json.encode(parse_policy(found or "{}"), order="sorted").decode()


def _file_text(given: str, option: str, form: str) -> str:
    if given.lstrip().startswith("{") or "://" in given:
        return given
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{option} {given}: the file can't be read ({error}); give a {form} file.") from error


def _run(
    pipeline: str,
    arguments: dict[str, Any],
    place: Place,
    *,
    run: str | None,
    trace_id: str | None,
    force: str | None,
) -> None:
    """Runs a pipeline where it is asked for and prints what came of it."""
    if place.engine is not Engine.LOCAL:
        _run_remotely(pipeline, arguments, place, run=run, trace_id=trace_id, force=force)
        return
    for option, given in (
        ("--namespace", place.namespace),
        ("--host", place.host),
        ("--parameter", place.parameters),
        ("--detach", place.detach),
    ):
        if given:
            raise InvalidConfig(f"{option} is for an engine; give --engine argo or kfp too, or leave it out.")
    with services_for(arguments):
        summary = run_local(
            arguments, pipeline=pipeline, run=run, trace_id=trace_id, force=force, runner=place.runner
        ).summary()
    _print(summary)


def _run_remotely(
    pipeline: str,
    arguments: dict[str, Any],
    place: Place,
    *,
    run: str | None,
    trace_id: str | None,
    force: str | None,
) -> None:
    for option, given in (("--run", run), ("--force", force)):
        if given:
            raise InvalidConfig(f"{option} works on this machine alone: leave it out, or give --engine local.")
    if place.runner != SUBPROCESS:
        raise InvalidConfig(
            f"--runner {place.runner} works on this machine alone: leave it out, or give --engine local."
        )
    if place.parameters and place.engine is not Engine.ARGO:
        raise InvalidConfig("--parameter works with --engine argo alone; leave it out.")
    check_reachable(arguments)
    asked = arguments | pairs(place.parameters)
    engine = _engine(place.engine)
    try:
        submitted = engine.submit(pipeline, asked, host=place.host, namespace=place.namespace, trace_id=trace_id)
    except (KeyboardInterrupt, Terminated) as asked_to_end:
        error: type[VisionloopError] = UserStopped if isinstance(asked_to_end, KeyboardInterrupt) else Terminated
        raise error(
            f"Stopped while the run was being submitted: {place.engine} may have taken it all the same; look there."
        ) from None
    if place.detach:
        print(f"The run goes on; follow it with: {submitted.follow_command()}", file=sys.stderr)  # noqa: T201
        _print({"run": submitted.run, "engine": submitted.engine, "name": submitted.name, "page": submitted.page})
        return
    _follow(submitted, str(arguments["workspace"]), asked)


def _follow(run: RemoteRun, workspace: str, arguments: Mapping[str, Any]) -> None:
    from visionloop.pipelines.following.follow import follow

    _print(follow(run, workspace, arguments))


def _engine(engine: Engine) -> Any:
    """The module with ``submit`` and ``find``; each brings the libraries of its engine."""
    if engine is Engine.ARGO:
        from visionloop.pipelines.engines.argo import runs as argo

        return argo
    from visionloop.pipelines.engines.kubeflow import runs as kubeflow

    return kubeflow


def check_reachable(arguments: Mapping[str, Any]) -> None:
    """Refuses what a pod can't reach.

    Raises:
        InvalidConfig: If an argument names a folder or a file of this machine.
    """
    for name in ("workspace", "dataset", "gate", "retraining"):
        if str(arguments.get(name) or "").startswith("file://"):
            raise InvalidConfig(
                f"--{name} {arguments[name]} lies on this machine, where no pod of an engine can reach it; give an s3:// URI."
            )


def pairs(given: Iterable[str]) -> dict[str, str]:
    """``--parameter`` pairs by name.

    Raises:
        InvalidConfig: If one is no NAME=VALUE, or has an option of its own.
    """
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidConfig(f"--parameter {pair}: give NAME=VALUE, such as gpus=0.")
        if name in RETRAIN:
            raise InvalidConfig(f"--parameter {pair}: {name} has an option of its own; see --help.")
        found[name] = value
    return found


def _print(summary: Mapping[str, Any]) -> None:
    print(msgspec.json.encode(summary).decode())  # noqa: T201


def run_local(
    arguments: dict[str, Any],
    *,
    pipeline: str = "train",
    run: str | None = None,
    trace_id: str | None = None,
    force: str | None = None,
    runner: str = SUBPROCESS,
) -> RunResult:
    """Runs a pipeline (train or retrain) here and follows it."""
    if force and force not in STAGES:
        raise InvalidConfig(f"--force {force}: there is no such stage; give one of {', '.join(STAGES)}.")
    sys.stdout.flush()
    result = run_pipeline(
        LocalRun(
            pipeline=PIPELINES[pipeline],
            arguments=arguments,
            stages=STAGES,
            workspace=str(arguments["workspace"]),
            run=runs.run_name(run),
            trace_id=trace_id,
            logs=find_folder(None).path / "logs" / "runs",
            force=force,
            runner=runner,
        )
    )
    _check_end(result)
    return result


def _check_end(result: RunResult) -> None:
    """Success is the receipt, never the engine's word: what should have been registered must be."""
    if not completed(result.stages):
        raise Defect(
            f"The engine called run {result.run.run} a success, but register has no receipt; please report it."
        )
