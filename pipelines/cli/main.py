"""The command line: one module for each command, and the only place that turns an error into a sentence and an exit code."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import visionloop
from visionloop.core import texts, variables
from visionloop.core.encodings import use_utf8, write_anything
from visionloop.core.errors import Defect, InvalidConfig, Terminated, UserStopped, VisionloopError, is_panic
from visionloop.core.logs import configure_for_people
from visionloop.core.processes import end_quickly
from visionloop.core.running import of_this_machine
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
    app.callback()(_common)
    app.add_typer(stage.application(arguments), name="stage")
    # Every container starts here, so what only a person's machine needs is not imported.
    if arguments[:1] != ["stage"]:
        _add_people_commands(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"visionloop {visionloop.__version__}")  # noqa: T201
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Retrain vision models from annotated image datasets."""


def _add_people_commands(app: typer.Typer) -> None:
    configure_for_people()
    from visionloop.pipelines.cli import (
        cache,
        compile,
        dataset,
        demo,
        demo_loop,
        deploy,
        model,
        plan,
        predict,
        run,
        schedule,
        serve,
        services,
        snapshot,
        trainer,
    )

    app.add_typer(run.application, name="run")
    app.add_typer(plan.application, name="plan")
    app.add_typer(dataset.application, name="dataset")
    app.add_typer(snapshot.application, name="snapshot")
    app.add_typer(model.application, name="model")
    app.add_typer(trainer.application, name="trainer")
    app.add_typer(schedule.application, name="schedule")
    app.add_typer(cache.application, name="cache")
    app.command("demo")(demo.demo)
    app.command("demo-loop")(demo_loop.demo_loop)
    app.command("serve")(serve.serve)
    app.command("deploy")(deploy.deploy)
    app.command("predict")(predict.predict)
    app.command("compile")(compile.compile_)
    app.command("up")(services.up)
    app.command("down")(services.down)
    app.command("status")(services.status)


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except OSError:
        raise InvalidConfig(
            "The current folder is gone or can't be read; change to another one and run it again."
        ) from None


def _end_by_signals() -> None:
    """Turns SIGTERM, and a closed terminal's SIGHUP, into an error, so that everything that was started is stopped."""

    def end(number: int, _: object) -> None:
        raise Terminated(f"visionloop was asked to end by {signal.Signals(number).name}; run it again to resume.")

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup the signal is ignored, and stays so.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def main() -> None:
    """Runs the command line; the exit code is that of the error's class."""
    arguments = sys.argv[1:]
    use_utf8()
    write_anything()
    end_quickly()
    try:
        # A stage does the same itself, and writes it into the run's record.
        if arguments[:1] != ["stage"]:
            variables.prepare()
            _end_by_signals()
        _check_current_folder()
        application(arguments)()
    except VisionloopError as error:
        sys.stdout.flush()
        print(error.sentence, file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as ended:
        # Typer handles a Ctrl-C that nothing else handled, and prints nothing.
        if ended.code == UserStopped.exit_code:
            _stopped()
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        explained = of_this_machine(_command_of(arguments), error)
        if explained is not None:
            sys.stdout.flush()
            print(explained.sentence, file=sys.stderr, flush=True)  # noqa: T201
            sys.exit(explained.exit_code)
        # Whatever is left is a defect, with its traceback and its own exit code.
        _defect(error)


def _command_of(arguments: list[str]) -> str:
    """The command's name in a sentence, with the engine that it names: ``visionloop compile --engine argo``."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))[:2]
    if "--engine" in arguments[:-1]:
        words += ["--engine", arguments[arguments.index("--engine") + 1]]
    return " ".join(["visionloop", *words])


def _defect(error: BaseException) -> NoReturn:
    defect = Defect(f"visionloop met a defect ({type(error).__name__}: {error}); please report it.")
    print(f"{texts.traceback(error)}{defect.sentence}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(Defect.exit_code)


def _stopped() -> NoReturn:
    print("visionloop was stopped by the user; run it again to resume.", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(UserStopped.exit_code)
