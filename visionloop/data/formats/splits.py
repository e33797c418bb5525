"""The words for a split in the names of folders and files."""

from __future__ import annotations

import re

#: The split that each word means.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

#: Words of a name: letters of one case, or a capital with small letters behind it; and the digits behind them.
_WORD = re.compile(r"([A-Z]+(?![a-z])|[A-Z]?[a-z]+)(\d*)")


def stated_split(path: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a path states: in its last part in which a word for one stands by itself.

    Returns:
        The split, and the word as it is written: with the digits behind it, then without. None where no part has such a word, or the
        last one that does has words for several splits.
    """
    for part in reversed(path.split("/")):
        words = [match for match in _WORD.finditer(part) if match[1].lower() in SPLITS]
        if words:
            meant = {SPLITS[match[1].lower()] for match in words}
            word = words[-1]
            return (meant.pop(), tuple(dict.fromkeys((word[0], word[1])))) if len(meant) == 1 else None
    return None
