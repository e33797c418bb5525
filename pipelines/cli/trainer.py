"""``visionloop trainer``: the training libraries that can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from visionloop.pipelines.cli.output import Output, aligned, show

if TYPE_CHECKING:
    from visionloop.training.listing import Entry

application = typer.Typer(
    no_args_is_help=True, help="Look at the trainers, the libraries that train.", rich_markup_mode=None
)


@application.callback()
def trainer() -> None:
    """Look at the trainers, the libraries that train."""


@application.command("list")
def list_(output: Output = None) -> None:
    """Lists the trainers: their library with version and licence, tasks, image, and how one that is not installed is.

    Example: visionloop trainer list
    """
    from visionloop.training.listing import listed

    entries = listed()
    show({"trainers": [asdict(entry) for entry in entries]}, _table(entries), output)


def _table(entries: Sequence[Entry]) -> list[str]:
    heading = ("TRAINER", "DISTRIBUTION", "LICENCE", "TASKS", "IMAGE", "INSTALLED")
    rows = [
        (
            entry.name,
            f"{entry.distribution} {entry.version or ''}".rstrip(),
            entry.license or "-",
            ", ".join(entry.tasks) or "-",
            entry.image or "-",
            entry.problem or ("yes" if entry.installed else entry.install),
        )
        for entry in entries
    ]
    return aligned(heading, rows)
