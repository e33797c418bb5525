"""``visionloop run train``: the whole pipeline on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from visionloop.components import names, runs
from visionloop.components.configuration.settings import BASIC
from visionloop.components.errors import Defect, InvalidConfig
from visionloop.components.evaluate.gate import resolve_gate
from visionloop.components.storage import normalise_uri
from visionloop.components.train.stage import parse_settings
from visionloop.pipelines.environment import services_for
from visionloop.pipelines.local import LocalRun, RunResult, run_pipeline
from visionloop.pipelines.parameters import arguments_for
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.targets import STAGES

#: What makes the pipeline in the runner's process.
TRAIN_PIPELINE = "visionloop.pipelines.train.kubeflow:train_pipeline"

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
    with services_for(arguments):
        result = run_local(arguments, run=run, trace_id=trace_id, force=force)
        summary = result.summary()
    print(msgspec.json.encode(summary).decode())  # noqa: T201


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
    if gate.lstrip().startswith("{") or "://" in gate:
        return gate
    try:
        return Path(gate).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"--gate {gate}: the file can't be read ({error}); give a JSON file.") from error


def run_local(
    arguments: dict[str, Any], *, run: str | None = None, trace_id: str | None = None, force: str | None = None
) -> RunResult:
    """Runs the train pipeline here and follows it."""
    if force and force not in STAGES:
        raise InvalidConfig(f"--force {force}: there is no such stage; give one of {', '.join(STAGES)}.")
    sys.stdout.flush()
    result = run_pipeline(
        LocalRun(
            pipeline=TRAIN_PIPELINE,
            arguments=arguments,
            stages=STAGES,
            workspace=str(arguments["workspace"]),
            run=runs.run_name(run),
            trace_id=trace_id,
            logs=find_folder(None).path / "logs" / "runs",
            force=force,
        )
    )
    _check_end(result)
    return result


def _check_end(result: RunResult) -> None:
    """Success is the receipt, never the engine's word: what should have been registered must be."""
    evaluate, register = result.stages.get("evaluate"), result.stages.get("register")
    verdict = evaluate.scalars.get("verdict") if evaluate else None
    if verdict != "reject" and not (register and register.state == "succeeded" and register.receipt):
        raise Defect(
            f"The engine called run {result.run.run} a success, but register has no receipt; please report it."
        )
