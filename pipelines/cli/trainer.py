"""``visionloop trainer``: the training libraries that can be chosen."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

from visionloop.core import texts
from visionloop.core.errors import AccessDenied, InvalidDataset
from visionloop.core.stdout import output_to
from visionloop.pipelines.cli.output import Output, aligned, show, wants_json
from visionloop.pipelines.console import plain

if TYPE_CHECKING:
    from visionloop.training.conformance import Outcome, Promise
    from visionloop.training.listing import Entry

application = typer.Typer(
    no_args_is_help=True, help="Look at the trainers, the libraries that train, and check one.", rich_markup_mode=None
)


@application.callback()
def trainer() -> None:
    """Look at the trainers, the libraries that train, and check one."""


@application.command("list")
def list_(output: Output = None) -> None:
    """Lists the trainers: their library with version and licence, tasks, image, and how one that is not installed is.

    Example: visionloop trainer list
    """
    from visionloop.training.listing import listed

    entries = listed()
    show({"trainers": [asdict(entry) for entry in entries]}, _table(entries), output)


@application.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The trainer, by the name of its entry point.")],
    task: Annotated[str | None, typer.Option(help="One of its tasks (default: all).")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of its trainings, such as a small model; repeatable."
        ),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what the trainer prints (default: it is thrown away).")
    ] = None,
    output: Output = None,
) -> None:
    """Checks that a trainer keeps what the protocol promises: trains on 24 generated images of each of its tasks, in minutes.

    Example: visionloop trainer check timm --task classification
    """
    from visionloop.training.configuration import parse_settings
    from visionloop.training.conformance import STATES, promises

    wanted = list(promises(name, task, parse_settings(set_ or [])))
    with _opened(log) as file, output_to(file) as (stdout, stderr):
        outcomes = list(_checked(wanted, stderr if wants_json(output) else stdout, stderr))
    counts: Counter[str] = Counter(outcome.state for outcome in outcomes)
    numbers = {state.replace(" ", "_"): counts[state] for state in STATES}
    result = {"trainer": name, "checks": [asdict(outcome) for outcome in outcomes], **numbers}
    show(result, [", ".join(f"{counts[state]} {state}" for state in STATES)], output)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        raise InvalidDataset(
            f"The trainer {name} fails {len(failed)} of {len(outcomes)} checks, the first by this: {failed[0].sentence}"
        )


def _checked(wanted: Sequence[Promise], results: TextIO, progress: TextIO) -> Iterator[Outcome]:
    """Makes the checks; writes a line for each as soon as it is done, and shows on a terminal which is under way."""
    task_width = max(len(promise.task or "") for promise in wanted)
    name_width = max(len(promise.check.name) for promise in wanted)
    console = plain(progress)
    with console.status("") as status:  # shows nothing where stderr is not a terminal
        for number, promise in enumerate(wanted, 1):
            status.update(f"{number} of {len(wanted)}: {promise.task or promise.trainer}, {promise.check.name}")
            outcome = promise.outcome()
            columns = (f"{outcome.state:11}", (outcome.task or "").ljust(task_width), outcome.check.ljust(name_width))
            line = "  ".join((*columns, texts.outgoing(outcome.sentence)))
            plain(results).print(line)
            yield outcome


@contextmanager
def _opened(log: Path | None) -> Iterator[BinaryIO]:
    """The file that takes what a trainer prints. Raises AccessDenied where it can't be written."""
    if log is None:
        with tempfile.TemporaryFile() as file:
            yield file
        return
    try:
        opened = log.open("wb")
    except OSError as error:
        raise AccessDenied(f"--log {log}: it can't be written ({error.strerror}); give another file.") from error
    with opened:
        yield opened


def _table(entries: Sequence[Entry]) -> list[str]:
    heading = ("TRAINER", "DISTRIBUTION", "LICENCE", "TASKS", "IMAGE", "INSTALLED")
    rows = [
        (
            entry.name,
            f"{entry.distribution} {entry.version or ''}".rstrip(),
            entry.licence or "-",
            ", ".join(entry.tasks) or "-",
            entry.image or "-",
            entry.problem or ("yes" if entry.installed else entry.install),
        )
        for entry in entries
    ]
    return aligned(heading, rows)
