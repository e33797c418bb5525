"""How deep the values of a file may be nested."""

from __future__ import annotations

#: Deepest nesting of the values in a file: of an annotation's attributes, and of metadata.json.
DEEPEST = 64


def depth(value: object) -> int:
    """How deep lists and objects are nested in a JSON value; 0 for a plain one."""
    level, deepest = [value], 0
    while level := [item for item in level if isinstance(item, list | dict)]:
        deepest += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deepest
