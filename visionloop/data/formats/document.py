"""A JSON document in pieces: a list's elements as spans of bytes that are decoded a few thousand at a time."""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from visionloop.core.errors import InvalidDataset
from visionloop.data.dice import format as dice

#: How often the pages of the file that lie behind are given back, in pieces.
_RELEASED_AFTER = 20

#: The mark with which some programs begin a text in UTF-8.
_MARK = b"\xef\xbb\xbf"

Decoded = TypeVar("Decoded")


@dataclass
class Piece:
    """Some elements of a list in a row: the index of the first, each one's JSON, and the list's name."""

    first: int
    elements: list[bytes]
    name: str = "images"

    @cached_property
    def lines(self) -> bytes:
        """One element after the other, a line for each (but for line breaks within one)."""
        return b"\n".join(self.elements)

    @cached_property
    def array(self) -> bytes:
        """The elements as a JSON array."""
        return b"[" + b",".join(self.elements) + b"]"

    def may_name(self, key: bytes) -> bool:
        """Whether an object of the piece may have a key; what is escaped may be any."""
        return b'"%s"' % key in self.lines or b"\\" in self.lines

    def check_text(self, file: str) -> None:
        """Raises InvalidDataset if it is not UTF-8."""
        if self.lines.isascii():
            return
        for index, element in enumerate(self.elements):
            try:
                element.decode()
            except UnicodeDecodeError as error:
                where = f"{self.name}[{self.first + index}], byte {error.start} of it"
                raise InvalidDataset(f"{file}: the file is no UTF-8 text ({where}); {dice.REMEDY}") from None

    def decode(self, type_: type[Decoded], file: str) -> list[Decoded]:
        """The elements as structs. Raises InvalidDataset with the field that is wrong."""
        try:
            elements: list[Decoded] = decode_whole(self.array, list[type_])  # type: ignore[valid-type]
            return elements
        except (msgspec.ValidationError, RecursionError) as error:
            text = dice.wrong_field(str(error), self.array)
            text = re.sub(r"^\[(\d+)\]", lambda match: f"{self.name}[{self.first + int(match[1])}]", text)
            raise InvalidDataset(dice.printable(f"{file}: {text}; {dice.REMEDY}")) from None


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
    """A JSON value whose whole numbers are integers, however they were written."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def in_pieces(elements: list[msgspec.Raw], data: bytes | mmap.mmap, name: str, at_once: int) -> Iterator[Piece]:
    """A list's elements, some at a time; what lies behind is forgotten, of the list and of the file's pages."""
    elements.reverse()
    first = 0
    while elements:
        taken = elements[: -at_once - 1 : -1]
        del elements[-len(taken) :]
        piece = Piece(first, [bytes(element) for element in taken], name)
        del taken
        yield piece
        first += len(piece.elements)
        if isinstance(data, mmap.mmap) and (first // at_once) % _RELEASED_AFTER == 0:
            data.madvise(mmap.MADV_DONTNEED)
