"""``visionloop stage NAME …``: the entry point of every container, its options made from the stage's own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from visionloop.components.convert.ahead import LOOKS_AHEAD, look_ahead
from visionloop.core import catalog, secrets
from visionloop.core.encodings import print_json
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Action, Argument, Outcome, Stage
from visionloop.core.stdout import stdout_to_stderr
from visionloop.core.stray import stray_lines

#: Options that every stage takes in addition to its own arguments.
COMMON: dict[str, tuple[Any, Any, str]] = {
    "workspace": (str, ..., "Where results lie: s3://bucket/prefix, file:///folder or a path."),
    "run": (str | None, None, "The run that this stage belongs to (default: JOB_ID, else a new one)."),
    "trace_id": (str | None, None, "The trace id (default: TRACE_ID, else the run's, else a new one)."),
    "force": (bool, False, "Compute again although there is a receipt."),
    "outputs": (Path | None, None, "A folder to write receipt, key and each scalar into, one file each (for Argo)."),
}

AHEAD = (
    "KEY=VALUE, may be given many times: model_name, gate and the training's settings. With it the stage also tells what "
    "is left to do after it: train, evaluate, register or nothing."
)


def application(arguments: list[str]) -> typer.Typer:
    """The ``stage`` command group. Only the stage that ``arguments`` names is imported, so that the others cost nothing."""
    app = typer.Typer(no_args_is_help=True, help="Run one stage of a pipeline.", rich_markup_mode=None)
    wanted = next((word for word in arguments[1:] if not word.startswith("-")), None)
    for entry in sorted(catalog.entry_points(group=catalog.STAGES), key=lambda entry: entry.name):
        if entry.name == wanted:
            stage = catalog.stage(entry.name)
            app.command(entry.name, help=f"{stage.description}\n\nExample: {example(stage)}")(_command(stage))
        else:
            app.command(entry.name, help=f"Run the stage {entry.name}; see --help.")(lambda: None)
    return app


def example(stage: Stage | Action) -> str:
    """A call of the stage with its required arguments."""
    words = [
        f"--{entry.name.replace('_', '-')} {_sample(entry.name)}"
        for entry in fields(stage.arguments)
        if _is_required(entry)
    ]
    if stage.name == "snapshot":
        words = ["--dataset s3://datasets/sample-digits"]
    return " ".join(["visionloop stage", stage.name, *words, "--workspace s3://visionloop/demo"])


#: What an example gives for what is no receipt.
_SAMPLES = {"model_name": "sample-digits", "model": "sample-digits@champion", "images": "s3://camera/2026"}


def _sample(name: str) -> str:
    return _SAMPLES.get(name, f"s3://visionloop/demo/{name}/…/receipt.json")


def _is_required(entry: Any) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _command(stage: Stage | Action) -> Callable[..., None]:
    def command(**options: Any) -> None:
        common = {name: options.pop(name) for name in COMMON}
        outputs = common.pop("outputs")
        ahead = options.pop("ahead", [])
        for name in listed:
            # One is a text, as an engine gives it.
            options[name] = options[name][0] if len(options[name]) == 1 else options[name]
        with stray_lines(), stdout_to_stderr():
            invocation = Invocation(**common)
            outcome = run_stage(stage, options, invocation)
            if ahead:
                unforced = replace(invocation, force=False)
                outcome = replace(
                    outcome,
                    run_scalars={**outcome.run_scalars, **look_ahead(outcome, options["snapshot"], ahead, unforced)},
                )
        if outputs:
            write_outputs(outcome, outputs)
        print_json(outcome.summary())

    parameters = []
    listed = [entry.name for entry in fields(stage.arguments) if entry.metadata["argument"].listed]
    for entry in fields(stage.arguments):
        argument: Argument = entry.metadata["argument"]
        several = argument.repeated or argument.listed
        kind: Any = list[str] if several else str | None
        default: Any = [] if several else None
        if not several and not _is_required(entry):
            default = entry.default
        text = f"{argument.description}{f' [env: {argument.variable}]' if argument.variable else ''}"
        parameters.append(_option(entry.name, kind, default, text))
    if stage.name == LOOKS_AHEAD:
        parameters.append(_option("ahead", list[str], [], AHEAD))
    parameters += [_option(name, kind, default, text) for name, (kind, default, text) in COMMON.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


# A signature that Typer reads, not Click's own Option: a Click command can't be added to a Typer group without converting all of it.
def _option(name: str, kind: Any, default: Any, text: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=text)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind, option],
    )


def write_outputs(outcome: Outcome, folder: Path) -> None:
    """Writes receipt, key, digest, each scalar and the metrics (a JSON object) into a folder, one file each: an engine's output parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = outcome.result.receipt.digest if outcome.result else None
    values = secrets.redact_fields({**outcome.summary(), "digest": digest})
    for name, value in values.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        (folder / name).write_text("" if value is None else text, encoding="utf-8")
