"""A document of paragraphs, tables and code, written once and shown as Markdown and as a page: names in it are plain text until then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import escape as html_escape

from visionloop.core import texts

#: What Markdown or HTML would take for markup: a class may be named `<b>` or `a|b`.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&])")


class Strong(str):
    """Text that stands out."""

    __slots__ = ()


class Code(str):
    """Text as a program reads it; a constant of ours, never a name from data."""

    __slots__ = ()


@dataclass(frozen=True)
class Paragraph:
    """Parts of one paragraph: plain text, Strong and Code."""

    parts: Sequence[str]
    kind: str = "paragraph"


@dataclass(frozen=True)
class Table:
    """A table; each row has as many cells as the head, whose texts are all empty where it needs none."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "table"


@dataclass(frozen=True)
class Listing:
    """Lines of a program, in the language that colours them."""

    language: str
    text: str
    kind: str = "listing"


Block = Paragraph | Table | Listing


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. One without blocks is not shown."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A title, what stands below it, and sections."""

    title: str
    opening: Sequence[Block]
    sections: Sequence[Section]


def paragraph(*parts: str) -> Paragraph:
    """A paragraph of these parts."""
    return Paragraph(parts)


def paragraphs(sentences: Iterable[str]) -> list[Block]:
    """Each sentence as a paragraph; empty ones are left out."""
    return [paragraph(sentence) for sentence in sentences if sentence]


def markdown(document: Document) -> str:
    """The document's Markdown, which ends with a line break."""
    blocks = [f"# {escape(document.title)}", *map(_block, document.opening)]
    for section in document.sections:
        if section.blocks:
            blocks += [f"## {escape(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """The text as Markdown that shows it literally, on one line."""
    return _MARKUP.sub(r"\\\1", texts.sentence(str(text)))


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return "".join(_part(part) for part in block.parts)
    if isinstance(block, Table):
        lines: list[Sequence[str]] = [[escape(cell) for cell in block.head], ["---"] * len(block.head)]
        lines += [[escape(cell) for cell in row] for row in block.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = texts.outgoing(block.text)
    # Longer than any run of backticks inside, which would end it.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{block.language}\n{text}\n{fence}"


def _part(part: str) -> str:
    if isinstance(part, Strong):
        return f"**{escape(part)}**"
    if isinstance(part, Code):
        return f"`{part}`"
    # Escaping takes the spaces at the ends, which part it from its neighbours.
    before, after = (" " if edge.isspace() else "" for edge in (part[:1], part[-1:]))
    return f"{before}{escape(part)}{after}"


def values(document: Document) -> dict[str, Any]:
    """What a template needs to show it: each part and cell stays the text it is, since the template escapes it."""
    sections = [section for section in document.sections if section.blocks]
    return {"opening": [_shown(block) for block in document.opening], "sections": [_section(each) for each in sections]}


def _section(section: Section) -> dict[str, Any]:
    return {"title": section.title, "blocks": [_shown(block) for block in section.blocks]}


def _shown(block: Block) -> dict[str, Any]:
    if isinstance(block, Paragraph):
        words = {Strong: "b", Code: "code"}
        return {"kind": block.kind, "parts": [(words.get(type(part), ""), str(part)) for part in block.parts]}
    if isinstance(block, Table):
        return {"kind": block.kind, "head": block.head if any(block.head) else (), "rows": block.rows}
    # Markup, since a text on a page is shortened, and half a command is none.
    return {"kind": block.kind, "text": html_escape(texts.outgoing(block.text))}
