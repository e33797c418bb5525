"""``visionloop plan train``: what a run would reuse and why it would compute the rest."""

from __future__ import annotations

from dataclasses import asdict

import typer

from visionloop.pipelines.cli.options import Training, checks_text, classes_text, dataset_text, flattened, gate_text
from visionloop.pipelines.cli.output import Json, Output, say, show, wants_json
from visionloop.pipelines.environment import services_for

application = typer.Typer(no_args_is_help=True, help="Say what a run would do.", rich_markup_mode=None)


@application.callback()
def pipelines() -> None:
    """Say what a run would do."""


@application.command("train")
@flattened
def train(training: Training, output: Output = None, json: Json = False) -> None:
    """Says for each stage whether it will be reused or run, and if it runs, what differs from the nearest earlier result.

    Example: visionloop plan train --dataset s3://datasets/sample-digits --workspace s3://visionloop/demo --model-name sample-digits --set model=yolo11n.yaml
    """
    from visionloop.pipelines.plan import StagePlan, stage_plans

    ordered = training.arguments()
    arguments = asdict(training) | {"gate": gate_text(training.gate) if training.gate else None}
    arguments["dataset"] = dataset_text(training.dataset) if training.dataset else None
    arguments["classes"] = classes_text(training.classes) if training.classes else None
    arguments["checks"] = checks_text(training.checks) if training.checks else None
    arguments["settings"] = training.settings or []
    plans: list[StagePlan] = []
    with services_for(ordered):
        as_text = not wants_json(output, json)
        for plan in stage_plans(arguments):
            plans.append(plan)
            # At once, so that the stages before one that is refused are listed.
            if as_text:
                say(f"{plan.stage:<9} {plan.action:<8} {'; '.join(plan.reasons)}".rstrip())
    if not as_text:
        show({"stages": [asdict(plan) for plan in plans]}, (), output, json)
