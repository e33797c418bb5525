"""The console for lines that people read, which hold names and paths of data."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console


def plain(file: TextIO | None = None, *, stderr: bool = False) -> Console:
    """A console that changes nothing in a text: no markup, no emoji for ``:x:``, no colours by content, no line breaks.

    Args:
        file: What is written to; None takes stdout.
        stderr: Whether stderr is taken in its place.
    """
    return Console(file=file, stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
