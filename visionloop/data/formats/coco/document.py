"""One JSON file of COCO: its categories, and its images and annotations as spans of bytes."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from visionloop.core.encodings import without_mark
from visionloop.core.errors import InvalidDataset
from visionloop.data.dice import format as dice
from visionloop.data.formats.document import decode_whole, unmarked

#: The remedy at the end of each sentence about a wrong file.
REMEDY = "correct the file, or export it again."

#: A list of numbers under this key is an annotation's; a category's holds names.
_KEYPOINTS = re.compile(rb'"keypoints"\s*:\s*\[\s*[-\d]')


#: A width or height in pixels; 0 where it is not known.
Size = Annotated[int, Meta(ge=0, lt=2**31)]


class _Document(Struct, kw_only=True):
    """The fields of a file; others are ignored."""

    images: list[msgspec.Raw] | UnsetType = UNSET
    annotations: list[msgspec.Raw] | UnsetType = UNSET
    categories: msgspec.Raw = msgspec.Raw()


class Category(Struct, frozen=True, gc=False, kw_only=True):
    """A category as it is written."""

    id: Annotated[int, Meta(ge=0, lt=2**31)]
    name: str
    supercategory: str | None = None
    color: Any = None
    keypoints: tuple[str, ...] | None = None
    skeleton: tuple[tuple[int, int], ...] | None = None


class Label(Struct, gc=False, kw_only=True):
    """An annotation as it is decoded where columns can't be."""

    image_id: int | str
    category_id: dice.ClassId
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: bool | Literal[0, 1, None] = None
    segmentation: tuple[tuple[float, ...], ...] | dice.RunLength | None = None
    keypoints: tuple[float, ...] | None = None


class Picture(Struct, gc=False, kw_only=True):
    """An image as it is decoded where columns can't be."""

    id: int | str
    file_name: str
    width: Size | None = None
    height: Size | None = None


@dataclass
class Document:
    """A file that was split.

    Attributes:
        file: Its key.
        images: Each one's JSON.
        annotations: Each one's JSON.
        categories: In the file's order.
    """

    file: str
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: tuple[Category, ...]


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
        text = dice.wrong_json(error, without_mark(bytes(data)))
        raise InvalidDataset(dice.printable(f"{file}: {text}; {REMEDY}")) from None
    raw = bytes(document.categories)
    if document.images is UNSET or document.annotations is UNSET or raw in (b"", b"null"):
        lists = {"images": document.images, "annotations": document.annotations}
        return next((name for name, value in lists.items() if value is UNSET), "categories")
    try:
        categories: tuple[Category, ...] = decode_whole(raw, tuple[Category, ...])
    except msgspec.ValidationError as error:
        message = str(error)
        message = message.replace("`$", "`$.categories") if "`$" in message else f"{message} - at `$.categories`"
        raise _wrong(message, file, b'{"categories":%s}' % raw) from None
    return Document(file, document.images, document.annotations, categories)


def _wrong(error: object, file: str, data: bytes) -> InvalidDataset:
    if str(error).startswith("Expected `object`") and " - at " not in str(error):
        return InvalidDataset(f"{file}: the file holds no JSON object, so this is not a COCO file; {REMEDY}")
    return InvalidDataset(dice.printable(f"{file}: {dice.wrong_field(str(error), data)}; {REMEDY}"))
