"""A JSON document in pieces: a list's elements are decoded some hundred at a time, and none of them is held."""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from visionloop.core.errors import InvalidDataset
from visionloop.core.memory import uncollected
from visionloop.data.formats.json_errors import REMEDY, wrong_field
from visionloop.data.sentences import printable

#: How many bytes are decoded at once: so few that the objects made of them stay in the processor's cache.
BYTES_AT_ONCE = 2**17

#: After how many bytes the pages of the file that lie behind are given back.
_RELEASED_AFTER = 2**26

#: The mark with which some programs begin a text in UTF-8.
_MARK = b"\xef\xbb\xbf"

#: What stands between two elements of a list, or before the first one.
_BETWEEN = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")

_EMPTY = re.compile(rb"\[[ \t\r\n]*\]")

_BRACE = re.compile(rb"[{}]")

#: Keys whose values are free: nothing in them is changed.
_FREE = frozenset({"metadata", "attributes"})

#: The JSON of a value that is missing.
NOTHING = msgspec.Raw()

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Piece(Generic[Decoded]):
    """Some elements of a list in a row.

    Attributes:
        first: The index of the first one.
        array: Their JSON, as an array.
        elements: The elements as structs.
    """

    first: int
    array: bytes
    elements: list[Decoded]


def is_list(value: msgspec.Raw) -> bool:
    """Whether JSON is a list; also of no bytes."""
    return bytes(memoryview(value)[:1]) in (b"", b"[")


def is_empty(elements: msgspec.Raw) -> bool:
    """Whether a list has no element."""
    return _EMPTY.fullmatch(memoryview(elements)) is not None


def in_pieces(
    elements: msgspec.Raw, type_: type[Decoded], name: str, file: str, data: bytes | mmap.mmap
) -> Iterator[Piece[Decoded]]:
    """A list's elements as structs, some at a time; none of them is held.

    A piece ends where as many braces are closed as were opened. A brace in a text can make that a wrong end, where a piece is not JSON:
    from there on each element is looked for.

    Args:
        elements: The list, whose syntax was checked.
        type_: The struct of an element.
        name: The list's name, for errors.
        file: The file's, for errors.
        data: The file, whose pages are given back.

    Raises:
        InvalidDataset: If a value is missing or not of its type; the sentence says which field.
    """
    view = memoryview(elements)
    first, begin, end = 0, _after(view, 1), len(view) - 1
    released = begin
    while begin < end:
        cut = _end_of_piece(view, begin)
        array = b"".join((b"[", view[begin:cut], b"]"))
        try:
            piece = _decoded(array, type_, name, file, first)
        except msgspec.DecodeError:
            yield from _one_by_one(elements, type_, name, file, first)
            return
        yield piece
        first += len(piece.elements)
        begin = _after(view, cut)
        if isinstance(data, mmap.mmap) and begin - released > _RELEASED_AFTER:
            data.madvise(mmap.MADV_DONTNEED)
            released = begin


def _after(view: memoryview, position: int) -> int:
    """Where the next element begins."""
    match = _BETWEEN.match(view, position)
    return match.end() if match else position  # it always matches


def _end_of_piece(view: memoryview, begin: int) -> int:
    """Where the first element ends that reaches beyond BYTES_AT_ONCE."""
    some = bytes(view[begin : begin + BYTES_AT_ONCE])
    depth = some.count(b"{") - some.count(b"}")
    for brace in _BRACE.finditer(view, begin + len(some)):
        depth += 1 if brace[0] == b"{" else -1
        if not depth:
            return brace.end()
    return len(view) - 1


def _one_by_one(
    elements: msgspec.Raw, type_: type[Decoded], name: str, file: str, first: int
) -> Iterator[Piece[Decoded]]:
    """The elements from the first one on, each looked for; slower, and never wrong."""
    rest = msgspec.json.decode(memoryview(elements), type=list[msgspec.Raw])[first:]
    at_once = max(1, BYTES_AT_ONCE // max(1, len(memoryview(elements)) // (first + len(rest))))
    for start in range(0, len(rest), at_once):
        array = b"[%b]" % b",".join(rest[start : start + at_once])
        yield _decoded(array, type_, name, file, first + start)


def _decoded(array: bytes, type_: type[Decoded], name: str, file: str, first: int) -> Piece[Decoded]:
    """A piece from its JSON. Raises msgspec.DecodeError if that is not JSON, InvalidDataset for a wrong field."""
    _check_text(array, name, file, first)
    try:
        with uncollected():
            return Piece(first, array, decode_whole(array, list[type_]))  # type: ignore[valid-type]
    except (msgspec.ValidationError, RecursionError) as error:
        msgspec.json.decode(array, type=list[msgspec.Raw])
        text = wrong_field(str(error), array)
        text = re.sub(r"^\[(\d+)\]", lambda match: f"{name}[{first + int(match[1])}]", text)
        raise InvalidDataset(printable(f"{file}: {text}; {REMEDY}")) from None


def _check_text(array: bytes, name: str, file: str, first: int) -> None:
    """Raises InvalidDataset if a piece is not UTF-8."""
    if array.isascii():
        return
    for index, element in enumerate(msgspec.json.decode(array, type=list[msgspec.Raw])):
        check_text(bytes(element), f"{name}[{first + index}]", file)


def refuse_repeated(
    data: bytes | mmap.mmap, names: Iterable[str], lists: Iterable[msgspec.Raw], file: str, remedy: str
) -> None:
    """Raises InvalidDataset if a key at a document's top stands there twice: of two lists the first would be lost.

    Args:
        data: The document, whose syntax was checked.
        names: The keys.
        lists: Its long values, which are not looked through.
        file: The file's name, for errors.
        remedy: What to do.
    """
    view = unmarked(data)
    begin = _address(view)
    rest, end = [], 0
    for value in sorted((memoryview(raw) for raw in lists if memoryview(raw)), key=_address):
        start = _address(value) - begin
        rest += [bytes(view[end:start]), b"0"]
        end = start + len(value)
    outside = b"".join((*rest, view[end:]))
    for name in names:
        if outside.count(b'"%b"' % name.encode()) > 1:
            keys = [key for key, _ in json.loads(outside.decode(errors="replace"), object_pairs_hook=list)]
            if keys.count(name) > 1:
                raise InvalidDataset(f"{file}: the key {name} stands twice at the top; {remedy}")


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    """A file's bytes, of which only those in use are in memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""  # an empty file can't be mapped
            return
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield data
        finally:
            with contextlib.suppress(BufferError):  # the JSON of an image may still be held: then it ends with that
                data.close()


def unmarked(data: bytes | mmap.mmap) -> memoryview:
    """The bytes of a JSON document without a byte order mark; they are not copied."""
    view = memoryview(data)
    return view[len(_MARK) :] if view[: len(_MARK)] == _MARK else view


def check_text(data: bytes, field: str, file: str) -> None:
    """Raises InvalidDataset if a field's JSON is not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        where = f"{field}, byte {error.start} of it"
        raise InvalidDataset(f"{file}: the file is not UTF-8 text ({where}); {REMEDY}") from None


def decode_whole(data: bytes, type_: Any) -> Any:
    """Decodes JSON in which a whole number may be written as 128.0. Raises msgspec.ValidationError."""
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        if not _WHOLE_EXPECTED.match(str(error)):
            raise
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise error from None
        return msgspec.convert(_whole(value), type_, strict=True)


_WHOLE_EXPECTED = re.compile(r"Expected `int\b.*`, got `float`")


def _whole(value: Any) -> Any:
    """A JSON value whose whole numbers are integers, however they were written; free values stay JSON as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {
            key: msgspec.Raw(msgspec.json.encode(item)) if key in _FREE else _whole(item) for key, item in value.items()
        }
    return value
