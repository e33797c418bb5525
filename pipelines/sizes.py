"""Sizes for people."""

from __future__ import annotations


def size_text(size: int) -> str:
    """A size in bytes: "1.5 GB"."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"
