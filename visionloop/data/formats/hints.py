"""Images that do not exist while others lie there under nearly the same names: a dataset's copying changed them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.source import Source
from visionloop.data.sentences import shown


def with_hint(read: Annotations, source: Source) -> Annotations:
    """The annotations with a notice where images that do not exist differ in Unicode form, case or a doubled folder from ones that do."""
    keys = read.images["key"]
    listed = source.objects(read.below)["key"]
    missing = keys.filter(pc.invert(pc.is_in(keys, value_set=listed.combine_chunks()))).to_pylist()
    if not missing:
        return read
    wanted: dict[str, str | None] = dict.fromkeys(map(_of_key, missing))
    for key in listed.to_pylist():
        if (name := _of_key(key)) in wanted and wanted[name] is None:
            wanted[name] = key
    pairs = [(key, existing) for key in missing if (existing := wanted[_of_key(key)])]
    if not pairs:
        return read
    key, existing = pairs[0]
    more = f" ({len(pairs) - 1:,} more)" if len(pairs) > 1 else ""
    notice = (
        f"{shown(key)} does not exist, but {shown(existing)} does{more}: {hint(key, [existing])}; rename one of them."
    )
    return replace(read, notices=(*read.notices, notice))


def hint(name: str, keys: Sequence[str]) -> str:
    """How a name differs from the keys that are nearly equal to it."""
    key = keys[0]
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", key):
        return "they differ in their Unicode form"
    return "they differ in case" if _folded(name) == _folded(key) else "a folder is doubled"


def near(name: str) -> str:
    """What names share that differ in Unicode form, in case or by a doubled folder alone."""
    parts = _folded(name).split("/")
    return "/".join(part for index, part in enumerate(parts) if index == 0 or part != parts[index - 1])


def _of_key(key: str) -> str:
    return near(key).removeprefix("images/")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
