"""XML as a stream: the children of the root one at a time, without document types, entities and deep nesting.

Expat resolves entities only where a document type declares them, so refusing that declaration refuses all of them
(https://docs.python.org/3/library/xml.html#xml-security).
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.nesting import DEEPEST
from visionloop.data.sentences import printable, shown

#: The largest child of a root in bytes, and the largest whole file where that is read at once.
LARGEST = 16 * 2**20

REMEDY = "export it again"

#: How much of a file is parsed at once, in bytes.
_BLOCK = 2**16

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def children(blocks: Iterable[bytes], file: str, root: str) -> Iterator[Element]:
    """The root's children one after the other, each with all that is in it; none of them is held.

    Args:
        blocks: The file's bytes.
        file: Its name, for errors.
        root: The name that the root must have.

    Raises:
        InvalidDataset: If it is not well formed, has a document type, is nested too deeply, or a child is too large.
    """
    parser = _Parser(file, root)
    for block in blocks:
        yield from parser.feed(block)
    yield from parser.feed(b"", last=True)


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, a block at a time."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def whole(data: bytes, file: str, root: str) -> Element:
    """A small file as a tree. Raises InvalidDataset as ``children`` does."""
    element = Element(root)
    element.extend(list(children((data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)), file, root)))
    return element


def number(text: str | None, where: str) -> float:
    """A finite number. Raises InvalidDataset with ``where`` it stands."""
    if text is None:
        raise InvalidDataset(f"{where} is missing; {REMEDY}.")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise InvalidDataset(f"{where}: {shown(text)} is not a finite number; correct it, or {REMEDY}.")
    return value


def pixels(text: str | None, where: str) -> int | None:
    """A side of a picture in whole pixels (``128`` or ``128.0``); None where it is not stated or 0.

    Raises:
        InvalidDataset: If it is negative, not whole, or beyond what a picture has.
    """
    if text is None or not text.strip():
        return None
    value = number(text, where)
    if value != int(value) or not 0 <= value < 2**31:
        raise InvalidDataset(f"{where}: {shown(text)} is not a whole number of pixels; correct it, or {REMEDY}.")
    return int(value) or None


class _Parser:
    """Feeds expat, and collects the children that are complete."""

    def __init__(self, file: str, root: str) -> None:
        self.file, self.root = file, root
        self.depth = self.fed = self.begin = 0
        self.complete: deque[Element] = deque()
        self.builder = TreeBuilder()
        self.expat = expat.ParserCreate()
        self.expat.buffer_text = True
        self.expat.StartDoctypeDeclHandler = self._refuse_doctype
        self.expat.EntityDeclHandler = self._refuse_doctype
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._data

    def feed(self, block: bytes, last: bool = False) -> Iterator[Element]:
        try:
            self.expat.Parse(block, last)
        except expat.ExpatError as error:
            reason = f"line {error.lineno}, column {error.offset}: {expat.ErrorString(error.code)}"
            raise self._error(f"the XML is not well formed ({reason})") from None
        except (LookupError, ValueError) as error:
            raise self._error(f"the XML's encoding can't be read ({error})") from None
        self.fed += len(block)
        if self.fed - self.begin > LARGEST:
            raise self._error(f"line {self.expat.CurrentLineNumber}: an element is larger than {LARGEST // 2**20} MiB")
        while self.complete:
            yield self.complete.popleft()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._error(f"line {self.expat.CurrentLineNumber}: nested deeper than {DEEPEST} levels")
        if self.depth == 1:
            if name != self.root:
                raise self._error(f"the root is {shown(name)}, not {shown(self.root)}")
            return
        if self.depth == 2:
            self.begin = self.expat.CurrentByteIndex
            self.builder = TreeBuilder()
        self.builder.start(name, attributes)

    def _end(self, name: str) -> None:
        if self.depth > 1:
            self.builder.end(name)
        if self.depth == 2:
            self.complete.append(self.builder.close())
            self.begin = self.expat.CurrentByteIndex
        self.depth -= 1

    def _data(self, text: str) -> None:
        if self.depth > 1:
            self.builder.data(text)

    def _refuse_doctype(self, *_: object) -> NoReturn:
        raise self._error("the XML declares a document type, and with it entities, which are not read")

    def _error(self, problem: str) -> InvalidDataset:
        return InvalidDataset(printable(f"{self.file}: {problem}; {REMEDY}."))
