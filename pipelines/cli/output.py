"""What a command ends with on stdout: text for a person at a terminal, one JSON object for anything else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from visionloop.core import texts
from visionloop.core.encodings import print_json
from visionloop.pipelines.console import plain

Format = Literal["text", "json"]

#: The option of every command that prints a result.
Output = Annotated[
    Format | None, typer.Option("--output", help="text or json (default: text on a terminal, json elsewhere).")
]

#: The option's other name, where a command had it before.
Json = Annotated[bool, typer.Option("--json", help="Print JSON; the same as --output json.")]


def wants_json(output: Format | None, json: bool = False) -> bool:
    """Whether a result is printed as JSON: as the option says, else where stdout is not a terminal."""
    if json or output is not None:
        return json or output == "json"
    return not sys.stdout.isatty()


def show(result: Any, lines: Iterable[str | Text], output: Format | None, json: bool = False) -> None:
    """Prints a command's result.

    Args:
        result: What JSON holds.
        lines: What a person reads; they are made only if they are printed.
        output: The option ``--output``.
        json: The option ``--json``.
    """
    if wants_json(output, json):
        print_json(result)
        return
    for line in lines:
        say(line)


def aligned(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table for a person: columns as wide as their widest cell, under a heading."""
    table = [[texts.outgoing(cell) for cell in row] for row in (heading, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def say(text: str | Text) -> None:
    """A line for a person, on stdout as it is."""
    line = texts.outgoing(text) if isinstance(text, str) else text
    plain().print(line)


def link(address: str) -> Text:
    """An address or a path of this machine, as a link where the terminal knows links."""
    address = texts.outgoing(address)
    target = address if "://" in address else Path(address).absolute().as_uri()
    return Text(address, style=f"link {target}")
