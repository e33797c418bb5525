"""Texts of a dataset's files as sentences show them."""

from __future__ import annotations

import json
from collections.abc import Mapping


def printable(text: str) -> str:
    """A text of the file for a sentence: characters that break a line or change the text direction are replaced."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "�" for character in text)


def with_more(first: str, others: int) -> str:
    """The first of some errors, with how many others there are."""
    return f"{first} ({others:,} more error{'s' if others > 1 else ''})" if others else first


def shown(value: object) -> str:
    """A value of the file for a sentence: as JSON, printable, shortened."""
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:77]}…"


def passed_over_notice(keys: Mapping[str, str]) -> str | None:
    """What of a dataset can't be read, by key what it is; None where all can be."""
    if not keys:
        return None
    names = [printable(f"{key} ({kind})") for key, kind in sorted(keys.items())]
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"passed over: {', '.join(names[:3])}{more}."
