"""What is seen of a place where a dataset should lie: its keys, and the first and last bytes of a few files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from xml.parsers import expat

import msgspec

from visionloop.core.storage import Prefix
from visionloop.data.formats.outline import Outline, outline

#: How many bytes of a file's start and of its end are read.
END_BYTES = 64 * 2**10

#: How many files are looked into, by their extensions: 16 in all.
LOOKED_INTO = {(".json",): 8, (".xml",): 4, (".yaml", ".yml"): 4}

#: Words that name a split in a folder's or a file's name.
SPLIT_WORDS = frozenset({"train", "val", "valid", "validation", "test"})

#: With what JSON and XML end, by what they begin with.
_CLOSING = {b"{": b"}", b"[": b"]", b"<": b">"}

#: What expat says of XML that ends within it.
_XML_ENDS = (
    expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS],
    expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN],
    expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION],
)

#: Extensions of image files, of those too that no trainer reads: they show what a folder is.
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".heic"})


@dataclass(frozen=True)
class Listing:
    """A place where a dataset should lie.

    Attributes:
        keys: The keys below it, as many as were listed.
        ends: Reads the first and the last END_BYTES of a key; the second is empty where the first are the whole file.
    """

    keys: Sequence[str]
    ends: Callable[[str], tuple[bytes, bytes]]

    def files(self, *extensions: str) -> list[str]:
        """The keys with these extensions that are looked into: the least deep ones, at most as many as LOOKED_INTO says."""
        chosen = [key for key in self.keys if suffix(key) in extensions]
        return sorted(chosen, key=lambda key: (key.count("/"), key))[: LOOKED_INTO[extensions]]

    @cached_property
    def outlines(self) -> dict[str, Outline]:
        """The outlines of the JSON files that are looked into, by key."""
        return {key: outline(*self.ends(key)) for key in self.files(".json")}

    @cached_property
    def xml_starts(self) -> dict[str, bytes]:
        """The first bytes of the XML files that are looked into, by key."""
        return {key: self.ends(key)[0] for key in self.files(".xml")}

    def is_image(self, key: str) -> bool:
        """Whether a key has an image's extension."""
        return suffix(key) in IMAGES


def suffix(key: str) -> str:
    """The extension of a key's last part with its dot, in lower case; empty without one."""
    return posixpath.splitext(key)[1].lower()


def ends_of(prefix: Prefix, key: str) -> tuple[bytes, bytes]:
    """The first and last END_BYTES of a file; the second are empty where the first are all. Raises NotFound."""
    start = prefix.read_start(key, END_BYTES)
    return start, prefix.read_end(key, END_BYTES) if len(start) == END_BYTES else b""


def not_whole(start: bytes, end: bytes) -> str | None:
    """Why a file can be neither whole JSON nor whole XML, told from its first and last bytes; None where they look like it.

    A small file, whose first bytes are all, is looked through.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "the file is empty"
    wide = text[:2] in (b"\xff\xfe", b"\xfe\xff")
    text, last = ((part[2:] if wide else part).replace(b"\0", b"") for part in (text, end or text))
    closing = _CLOSING.get(text[:1])
    if closing is None:
        # A text, a number or null is JSON too, though no dataset.
        return None if not end and _is_json(text) else "the file does not begin as its name says"
    if not last.rstrip().endswith(closing) or (not end and (_xml_ends(start) if closing == b">" else _json_ends(text))):
        return "the file ends before it is complete"
    return None


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _json_ends(text: bytes) -> bool:
    """Whether JSON ends where more must follow; what is wrong in another way is not JSON of a dataset's."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except (UnicodeDecodeError, RecursionError):
        return False
    return False


def _xml_ends(data: bytes) -> bool:
    """The same of XML; what it holds is not looked at."""
    parser = expat.ParserCreate()
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        return error.code in _XML_ENDS
    except (LookupError, ValueError):
        return False
    return False


def is_hidden(key: str) -> bool:
    """Whether a key lies in a folder, or has a name, that systems hide, or that archives leave behind."""
    return any(part.startswith(".") or part == "__MACOSX" for part in key.split("/"))
