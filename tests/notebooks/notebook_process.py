"""Runs a notebook's cells from top to bottom in a process of its own; they are plain Python, without a notebook's magic."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

#: Reads the cells from stdin and runs one after the other; a traceback names the cell.
_RUN = """
import json, sys
space = {"__name__": "__main__"}
for number, cell in enumerate(json.load(sys.stdin)):
    print(f"[{number}]", flush=True)
    exec(compile(cell, f"cell {number}", "exec"), space)
"""


@dataclass(frozen=True)
class Ran:
    """What a notebook printed, cell by cell, and the exit code of its process with what it said on stderr."""

    code: int
    cells: list[str]
    stderr: str


def code_cells(name: str) -> list[str]:
    """The code of a notebook's cells."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(
    name: str,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float = 600,
    before: str = "",
    settings: tuple[str, ...] | None = None,
) -> Ran:
    """Runs a notebook in a folder; code ``before`` its first cell does not count as a cell.

    ``settings`` take the place of those that the notebook trains with, in its line ``settings = […]``.
    """
    cells = [f"{before}\n{cell}" if number == 0 else cell for number, cell in enumerate(code_cells(name))]
    if settings is not None:
        replaced = [re.subn(r"^settings = \[.*\]$", f"settings = {list(settings)}", cell, flags=re.M) for cell in cells]
        assert sum(count for _, count in replaced) == 1
        cells = [cell for cell, _ in replaced]
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
        timeout=seconds,
    )
    rest, printed = done.stdout, []
    for number in reversed(range(len(cells))):
        rest, result, text = rest.rpartition(f"[{number}]\n")
        if result:
            printed.append(text)
        else:
            rest = text
    return Ran(done.returncode, printed[::-1], done.stderr)
