"""Names that are nearly equal: of images that do not exist while others lie there, and of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.source import Source
from visionloop.data.sentences import printable, shown


def with_hint(read: Annotations, source: Source) -> Annotations:
    """The annotations with notices about names.

    Of images that do not exist and differ in Unicode form, case or a doubled folder from ones that do; of classes that differ in form, case or
    white space.
    """
    if notices := list(_classes([entry.name for entry in read.classes])):
        read = replace(read, notices=(*read.notices, *notices))
    keys, listed = read.images["key"], source.objects(read.below)["key"]
    missing = keys.filter(pc.invert(pc.is_in(keys, value_set=listed.combine_chunks())))
    if not len(missing):
        return read
    # All columns at once: the names of a million images take a quarter of a minute one by one.
    names, nearly = _last_part(missing), _last_part(listed)
    listed = listed.filter(pc.is_in(nearly, value_set=names.combine_chunks()))
    missing = missing.filter(pc.is_in(names, value_set=nearly.combine_chunks()))
    existing = {_of_key(key): key for key in reversed(listed.to_pylist())}
    pairs = [(key, existing[name]) for key in missing.to_pylist() if (name := _of_key(key)) in existing]
    if not pairs:
        return read
    key, other = pairs[0]
    more = f" ({len(pairs) - 1:,} more)" if len(pairs) > 1 else ""
    notice = f"{shown(key)} does not exist, but {shown(other)} does{more}: {hint(_below(key), [_below(other)])}; rename one of them."
    return replace(read, notices=(*read.notices, notice))


def _classes(names: Sequence[str]) -> Iterator[str]:
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(" ".join(_folded(name).split()), name)
        if other != name:
            spaced = _folded(other) != _folded(name)
            difference = "they differ in white space" if spaced else hint(other, [name])
            yield printable(
                f"{shown(other)} and {shown(name)} are two classes: {difference}; rename one if they are one class."
            )


def _last_part(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """The last part of each key, in one Unicode form and in lower case."""
    return pc.utf8_lower(pc.utf8_normalize(pc.replace_substring_regex(keys, "^.*/", ""), "NFC"))


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
    return _below(near(key))


def _below(key: str) -> str:
    """The key without the folder that some formats put before it and others do not."""
    return key.removeprefix("images/")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
