"""``visionloop plan train``: what a run would reuse and why it would compute the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec
import typer

from visionloop.pipelines.cli import run
from visionloop.pipelines.cli.services import say
from visionloop.pipelines.environment import services_for

application = typer.Typer(no_args_is_help=True, help="Say what a run would do.", rich_markup_mode=None)


@application.callback()
def pipelines() -> None:
    """Say what a run would do."""


@application.command("train")
def train(
    workspace: run.Workspace,
    model_name: run.ModelName,
    dataset: run.Dataset = None,
    snapshot: run.Snapshot = None,
    task: run.Task = None,
    split: run.Split = None,
    run_name: run.RunName = None,
    description: run.Description = None,
    gate: run.Gate = None,
    settings: run.Settings = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says for each stage whether it will be reused or run, and if it runs, what differs from the nearest earlier result.

    Example: visionloop plan train --dataset s3://datasets/digits --workspace s3://visionloop/results --model-name digits
    """
    from visionloop.pipelines.plan import plan_train

    run.pipeline_arguments(
        dataset=dataset,
        snapshot=snapshot,
        workspace=workspace,
        model_name=model_name,
        gate=gate,
        settings=settings or [],
    )
    given = {
        "dataset": dataset,
        "snapshot": snapshot,
        "workspace": workspace,
        "model_name": model_name,
        "task": task,
        "split": split,
        "gate": run.gate_text(gate) if gate else None,
        "settings": settings or [],
    }
    with services_for(given):
        plans = plan_train(given)
    if json:
        print(msgspec.json.encode({"stages": [asdict(plan) for plan in plans]}).decode())  # noqa: T201
        return
    for plan in plans:
        say(f"{plan.stage:<9} {plan.action:<8} {'; '.join(plan.reasons)}".rstrip())
