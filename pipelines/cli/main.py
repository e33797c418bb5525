"""The command line: one module a command, and the one place that turns an error into a sentence and an exit code."""

from __future__ import annotations

import os
import sys

import typer

from visionloop.components.errors import UserStopped, VisionloopError
from visionloop.pipelines.cli import stage


def application(arguments: list[str]) -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Retrain vision models from annotated image datasets.",
    )
    app.add_typer(stage.application(arguments), name="stage")
    return app


def main() -> None:
    """Runs the command line; the exit code is that of the error's class."""
    try:
        application(sys.argv[1:])()
    except VisionloopError as error:
        sys.stdout.flush()
        print(error.sentence, file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Stopped by the user.", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(UserStopped.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
