"""One JSON file of COCO: its categories, and its images and annotations as JSON that is decoded in pieces."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from visionloop.core.encodings import without_mark
from visionloop.core.errors import InvalidDataset
from visionloop.data.dice import format as dice
from visionloop.data.formats.columns import Shape
from visionloop.data.formats.document import NOTHING, check_text, decode_whole, is_list, refuse_repeated, unmarked
from visionloop.data.formats.json_errors import wrong_field, wrong_json
from visionloop.data.formats.licences import stated
from visionloop.data.sentences import printable

#: The remedy at the end of each sentence about a wrong file.
REMEDY = "correct the file, or export it again."

#: A list of numbers under this key is an annotation's; a category's holds names.
_KEYPOINTS = re.compile(rb'"keypoints"\s*:\s*\[\s*[-\d]')


#: A width or height in pixels; 0 where it is not known.
Size = Annotated[int, Meta(ge=0, lt=2**31)]


class _Document(Struct, kw_only=True):
    """The fields of a file; others are ignored."""

    images: msgspec.Raw = NOTHING
    annotations: msgspec.Raw = NOTHING
    categories: msgspec.Raw = NOTHING
    licenses: msgspec.Raw = NOTHING


class Category(Struct, frozen=True, gc=False, kw_only=True):
    """A category as it is written."""

    id: Annotated[int, Meta(ge=0, lt=2**31)]
    name: str
    supercategory: str | None = None
    color: Any = None
    keypoints: tuple[str, ...] | None = None
    skeleton: tuple[tuple[int, int], ...] | None = None


class Label(Shape, gc=False, kw_only=True):
    """An annotation as it is decoded."""

    image_id: int | str
    category_id: dice.ClassId


class Picture(Struct, gc=False, kw_only=True):
    """An image as it is decoded."""

    id: int | str
    file_name: str
    width: Size | None = None
    height: Size | None = None
    metadata: msgspec.Raw = NOTHING


@dataclass
class Document:
    """A file that was split.

    Attributes:
        file: Its key.
        images: The list's JSON.
        annotations: The list's JSON.
        categories: In the file's order.
        licences: Those that the file lists.
    """

    file: str
    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: tuple[Category, ...]
    licences: tuple[str, ...] = ()


def has_keypoints(data: bytes | mmap.mmap) -> bool:
    """Whether annotations of a file hold keypoints."""
    return _KEYPOINTS.search(data) is not None


def split(data: bytes | mmap.mmap, file: str) -> Document | str:
    """Splits a file; the whole file's syntax is checked.

    Args:
        data: Its bytes.
        file: Its key, for errors.

    Returns:
        The document, or for a file that lacks one of COCO's lists the name of that.

    Raises:
        InvalidDataset: If it is not JSON, or a category is wrong.
    """
    try:
        document = msgspec.json.decode(unmarked(data), type=_Document)
    except msgspec.ValidationError as error:
        raise _wrong(error, file, without_mark(bytes(data))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = wrong_json(error, without_mark(bytes(data)))
        raise InvalidDataset(printable(f"{file}: {text}; {REMEDY}")) from None
    lists = {"images": document.images, "annotations": document.annotations}
    for name, value in lists.items():
        if not is_list(value):
            _field(value, list[Any], name, file)
    if missing := [name for name, value in lists.items() if not memoryview(value)]:
        return missing[0]
    if bytes(document.categories) in (b"", b"null"):
        return "categories"
    refuse_repeated(data, (*lists, "categories"), lists.values(), file, REMEDY)
    categories = _field(document.categories, tuple[Category, ...], "categories", file)
    return Document(file, document.images, document.annotations, categories, _licences(document.licenses))


def _licences(raw: msgspec.Raw) -> tuple[str, ...]:
    """The list ``licenses``; what else stands there says nothing of the dataset's use, and is no reason to refuse it."""
    try:
        entries = msgspec.json.decode(raw, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    return stated((entry.get("name"), entry.get("url")) for entry in entries)


def _field(raw: msgspec.Raw, type_: Any, name: str, file: str) -> Any:
    data = bytes(raw)
    check_text(data, name, file)
    try:
        return decode_whole(data, type_)
    except msgspec.ValidationError as error:
        message = str(error)
        message = message.replace("`$", f"`$.{name}") if "`$" in message else f"{message} - at `$.{name}`"
        raise _wrong(message, file, b'{"%s":%s}' % (name.encode(), data)) from None


def _wrong(error: object, file: str, data: bytes) -> InvalidDataset:
    if str(error).startswith("Expected `object`") and " - at " not in str(error):
        return InvalidDataset(f"{file}: the file holds no JSON object, so this is not a COCO file; {REMEDY}")
    return InvalidDataset(printable(f"{file}: {wrong_field(str(error), data)}; {REMEDY}"))
