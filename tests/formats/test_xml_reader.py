"""XML without document types, entities and depth, a child of the root at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats import xml_reader

BOMB = """<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r><c>&b;</c></r>"""
EXTERNAL = """<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r><c>&a;</c></r>"""
REMOTE = """<!DOCTYPE r SYSTEM "http://127.0.0.1:9/r.dtd"><r><c/></r>"""
PARAMETER = """<!DOCTYPE r [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><r><c/></r>"""


def texts(data: bytes) -> list[str | None]:
    return [child.text for child in xml_reader.whole(data, "a.xml", "r")]


BROKEN: dict[str, tuple[bytes, str]] = {
    "a bomb": (BOMB.encode(), "declares a document type"),
    "an external entity": (EXTERNAL.encode(), "declares a document type"),
    "a remote document type": (REMOTE.encode(), "declares a document type"),
    "a parameter entity": (PARAMETER.encode(), "declares a document type"),
    "a bomb in UTF-16": (BOMB.encode("utf-16"), "declares a document type"),
    "an undefined entity": (b"<r><c>&a;</c></r>", "undefined entity"),
    "truncated": (b"<r><c>", "not well formed (line 1"),
    "empty": (b"", "no element found"),
    "JSON": (b"{}", "not well formed"),
    "a wrong end": (b"<r><c></r>", "mismatched tag"),
    "two roots": (b"<r/><r/>", "junk after document element"),
    "another root": (b"<s/>", 'the root is "s", not "r"'),
    "depth": (b"<r>" + b"<c>" * 100_000, "nested deeper than 64 levels"),
    "no encoding": (b"<?xml version='1.0' encoding='no-such'?><r/>", "encoding"),
    "a codec that is not an encoding": (b"<?xml version='1.0' encoding='base64'?><r/>", "encoding"),
    "UTF-7": (b"<?xml version='1.0' encoding='utf-7'?><r><c>+ADw-</c></r>", "encoding"),
    "no UTF-8": (b"<r><c>\xff</c></r>", "not well formed"),
    "an attribute twice": (b"<r><c a='1' a='2'/></r>", "duplicate attribute"),
    "a zero byte": (b"<r><c>\x00</c></r>", "not well formed"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_read_is_one_sentence(case: str) -> None:
    data, words = BROKEN[case]
    with pytest.raises(InvalidDataset) as refused:
        texts(data)
    assert refused.value.sentence.startswith("a.xml: ")
    assert words in refused.value.sentence
    assert refused.value.sentence.endswith("; export it again.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings_that_a_file_declares_are_read(encoding: str) -> None:
    name = encoding.removesuffix("-sig")
    assert texts(f"<?xml version='1.0' encoding='{name}'?><r><c>\xe4&amp;&#228;</c></r>".encode(encoding)) == [
        "\xe4&\xe4"
    ]


@pytest.mark.parametrize("large", [b"<c a='%s'/>", b"<c>%s</c>", b"<!--%s-->"])
def test_a_child_that_never_ends_is_refused_before_it_is_read(large: bytes) -> None:
    begin, end = large.split(b"%s")
    read = 0

    def blocks() -> Iterator[bytes]:
        nonlocal read
        yield b"<r>" + begin
        for _ in range(1000):
            read += 2**20
            yield b"x" * 2**20
        yield end + b"</r>"

    with pytest.raises(InvalidDataset, match="larger than 16 MiB"):
        list(xml_reader.children(blocks(), "a.xml", "r"))
    assert read < 20 * 2**20


def test_children_come_one_at_a_time() -> None:
    served = 0

    def blocks() -> Iterator[bytes]:
        nonlocal served
        yield b"<r>"
        for number in range(100):
            served = number
            yield b"<c>%d</c>" % number

    children = xml_reader.children(blocks(), "a.xml", "r")
    assert next(children).text == "0"
    assert served < 3


@pytest.mark.parametrize(("text", "value"), [("128", 128), ("128.0", 128), (" 7 ", 7), ("1e2", 100), ("-.5", -0.5)])
def test_a_number(text: str, value: float) -> None:
    assert xml_reader.number(text, "x") == value


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "1e999", "1_000", "", "0x10", "1,5", "١"])
def test_what_is_not_a_finite_number_is_named(text: str) -> None:
    with pytest.raises(InvalidDataset, match=r"^a\.xml: x: .* is not a finite number"):
        xml_reader.number(text, "a.xml: x")


@pytest.mark.parametrize(("text", "value"), [(None, None), ("0", None), ("128.0", 128)])
def test_a_side_of_a_picture(text: str | None, value: int | None) -> None:
    assert xml_reader.pixels(text, "width") == value


@pytest.mark.parametrize("text", ["-1", "12.5", "1e30"])
def test_a_side_that_no_picture_has_is_named(text: str) -> None:
    with pytest.raises(InvalidDataset, match="is not a whole number of pixels"):
        xml_reader.pixels(text, "width")
