"""The outline of a JSON file, read from its first and last bytes: its top-level keys, and the first element of its lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}:,]')

#: A key of COCO whose value is a list, as it stands in the last bytes of a file, where its depth is not known.
_LIST = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')

#: The open brackets in an object that is an element of a list at the top, and of a list that a key at the top holds.
_IN_LIST, _IN_LIST_OF_KEY = "[{", "{[{"


@dataclass(frozen=True)
class Outline:
    """What is seen of a JSON file.

    Attributes:
        keys: The top-level keys.
        first: The keys of the first element of each list: by the list's key, or by "" for a list at the top.
        last: Keys of COCO that hold lists, in the last bytes, at any depth.
        open: Whether the first element of a list at the top goes on behind the first bytes, so that it may have more keys.
    """

    keys: frozenset[str] = frozenset()
    first: Mapping[str, frozenset[str]] = field(default_factory=dict)
    last: frozenset[str] = frozenset()
    open: bool = False


def outline(start: bytes, end: bytes = b"") -> Outline:
    """The outline of a file of which the first bytes are given, and the last ones where these are not the whole file."""
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] not in (b"{", b"["):
        return Outline()
    keys: set[str] = set()
    first: dict[str, set[str]] = {}
    shape, text, key, element = "", "", "", 0
    for match in _TOKEN.finditer(start):
        mark = match.group().decode(errors="replace")
        if mark[0] == '"':
            text = mark[1:-1]
        elif mark == ":" and shape == "{":
            key = text
            keys.add(key)
        elif mark == ":" and shape in (_IN_LIST, _IN_LIST_OF_KEY) and element == 0:
            first.setdefault(key, set()).add(text)
        elif mark == "," and shape in ("[", "{["):
            element += 1
        elif mark in "]}":
            shape = shape[:-1]
        elif mark in "[{":
            element = 0 if shape in ("", "{") else element
            shape += mark
    last = frozenset(match.decode() for match in _LIST.findall(end))
    firsts = {name: frozenset(names) for name, names in first.items()}
    return Outline(frozenset(keys), firsts, last, open=shape.startswith(_IN_LIST) and element == 0)
