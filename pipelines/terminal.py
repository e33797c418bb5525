"""What the terminal can do that a run is shown on."""

from __future__ import annotations

from rich.console import Console


def redraws(console: Console) -> bool:
    """Whether lines can be changed in place: on a terminal, unless it is a dumb one (``TERM=dumb``), which only takes lines."""
    return console.is_terminal and not console.is_dumb_terminal
