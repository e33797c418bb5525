"""``visionloop schedule``: retraining at the times of a cron expression, started by the engine."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from visionloop.pipelines import engines
from visionloop.pipelines.cli.options import (
    EngineChoice,
    Host,
    Namespace,
    Parameters,
    Retraining,
    check_options,
    flattened,
    parameter_pairs,
)
from visionloop.pipelines.cli.output import Json, Output, aligned, show
from visionloop.pipelines.engines.cluster import check_reachable
from visionloop.pipelines.engines.schedules import Schedule, check_name
from visionloop.pipelines.following.cron import Cron, zone_named
from visionloop.pipelines.preflight import check_from_outside

#: The pipeline that schedules start: its retraining policy decides each time whether to go on.
PIPELINE = "retrain"

EngineName = Annotated[
    EngineChoice,
    typer.Option("--engine", help=f"Which engine keeps the schedule: {engines.choice(engines.clusters())}."),
]
Name = Annotated[str, typer.Argument(help="The schedule's name.")]

application = typer.Typer(no_args_is_help=True, help="Retrain on a schedule.", rich_markup_mode=None)


@application.callback()
def schedule() -> None:
    """Retrain on a schedule."""


@application.command("create")
@flattened
def create(
    name: Name,
    cron: Annotated[
        str, typer.Option(help="Minute, hour, day of the month, month, day of the week, such as '0 3 * * 1-5'.")
    ],
    engine: EngineName,
    training: Retraining,
    parameters: Parameters = None,
    timezone: Annotated[str, typer.Option(help=engines.help_of("timezone"))] = "UTC",
    namespace: Namespace = None,
    host: Host = None,
    output: Output = None,
) -> None:
    """Makes a schedule that runs ``visionloop-retrain``, never twice at once.

    Example: visionloop schedule create nightly --cron '0 3 * * *' --engine argo --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml
    """
    check_name(name)
    when = Cron.parse(cron)
    zone_named(timezone)
    arguments = training.arguments()
    chosen = engines.engine(engine)
    if parameters:
        check_options(chosen, {"parameter": parameters})
    check_reachable(arguments)
    check_from_outside(arguments)
    arguments |= parameter_pairs(parameters or ())
    made = chosen.schedules(host=host, namespace=namespace).create(name, PIPELINE, arguments, when, timezone)
    show(asdict(made), [f"{made.name} is made; its next run starts at {_time(made.next)}."], output)


@application.command("list")
def list_(
    engine: EngineName,
    namespace: Namespace = None,
    host: Host = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Lists the schedules: name, cron, time zone, state, last and next start.

    Example: visionloop schedule list --engine argo
    """
    schedules = engines.engine(engine).schedules(host=host, namespace=namespace).list()
    show({"schedules": [asdict(entry) for entry in schedules]}, _table(schedules), output, json)


@application.command("pause")
def pause(
    name: Name, engine: EngineName, namespace: Namespace = None, host: Host = None, output: Output = None
) -> None:
    """Starts no more runs until it is resumed; a run that goes on is left alone.

    Example: visionloop schedule pause nightly --engine argo
    """
    engines.engine(engine).schedules(host=host, namespace=namespace).pause(name)
    show({"name": name, "state": "paused"}, [f"{name} is paused."], output)


@application.command("resume")
def resume(
    name: Name, engine: EngineName, namespace: Namespace = None, host: Host = None, output: Output = None
) -> None:
    """Starts runs again; of the times that were missed the last one is made up for.

    Example: visionloop schedule resume nightly --engine argo
    """
    engines.engine(engine).schedules(host=host, namespace=namespace).resume(name)
    show({"name": name, "state": "active"}, [f"{name} is active."], output)


@application.command("delete")
def delete(
    name: Name, engine: EngineName, namespace: Namespace = None, host: Host = None, output: Output = None
) -> None:
    """Removes a schedule; what its runs have computed stays.

    Example: visionloop schedule delete nightly --engine argo
    """
    engines.engine(engine).schedules(host=host, namespace=namespace).delete(name)
    show({"name": name, "state": "deleted"}, [f"{name} is deleted."], output)


def _table(schedules: list[Schedule]) -> list[str]:
    """Aligned columns with a heading."""
    heading = ("NAME", "CRON", "ZONE", "STATE", "LAST", "NEXT", "MODEL")
    rows = [
        (
            entry.name,
            entry.cron,
            entry.timezone or "-",
            entry.state,
            _time(entry.last),
            _time(entry.next),
            entry.model_name or "-",
        )
        for entry in schedules
    ]
    return aligned(heading, rows)


def _time(moment: datetime | None) -> str:
    """A time with its zone's offset; "-" for None."""
    return "-" if moment is None else moment.isoformat(sep=" ", timespec="minutes")
