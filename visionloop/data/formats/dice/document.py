"""The JSON document of DICE: its small fields typed, its images as JSON that is decoded in pieces."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from visionloop.core.encodings import without_mark
from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.dice import format as dice
from visionloop.data.formats.columns import Shape
from visionloop.data.formats.document import (
    NOTHING,
    Piece,
    check_text,
    decode_whole,
    in_pieces,
    is_empty,
    is_list,
    refuse_repeated,
    unmarked,
)
from visionloop.data.formats.json_errors import REMEDY, wrong_field, wrong_json
from visionloop.data.sentences import printable, shown


class _Document(Struct, kw_only=True):
    """The fields of a file; others are ignored. What may hold a whole number written as 128.0 is decoded by itself."""

    format_version: str
    classes: msgspec.Raw
    images: msgspec.Raw
    task_type: str | None = None
    dataset_id: str | int | None = None
    dataset_name: str | None = None
    statistics: msgspec.Raw = msgspec.Raw(b"null")
    annotations: msgspec.Raw = NOTHING
    categories: msgspec.Raw = NOTHING

    @property
    def is_coco(self) -> bool:
        """Whether labels would be passed over: DICE has no such lists."""
        return bool(bytes(self.categories)) or bytes(self.annotations).strip(b"[] \t\r\n") not in (b"", b"null", b"{}")


class Label(Shape, gc=False, kw_only=True):
    """An annotation as it is decoded; as ``dice.Annotation``, but for its attributes."""

    class_id: dice.ClassId
    id: dice.Id = None
    image_id: dice.Id = None
    class_name: str | None = None
    bbox_format: Literal["xywh", None] = None
    iscrowd: Literal[0, 1, None] = None


class Picture(Struct, gc=False, kw_only=True):
    """An image as it is decoded."""

    file_name: str
    width: dice.Pixels
    height: dice.Pixels
    id: dice.Id = None
    split: Literal["train", "val", "test", "valid", "validation", "", None] = None
    annotations: tuple[Label, ...] = ()
    metadata: msgspec.Raw = NOTHING


@dataclass(frozen=True)
class Header:
    """What a file says besides its images."""

    task: str
    classes: tuple[Class, ...]
    dataset_id: str | None
    dataset_name: str | None
    statistics: dice.Statistics | None


def split(data: bytes | mmap.mmap, file: str, task: str | None) -> tuple[Header, Iterator[Piece[Picture]]]:
    """A file's header, and its images in pieces; no more than one of them is held.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        task: The task that it is read for, or None to take the file's own.

    Raises:
        InvalidDataset: If it is not DICE 1.x, is for another task, or has no image or no class.
    """
    document = _document(data, file)
    if not is_list(document.images):
        _field(document.images, list[Any], "images", file)
    refuse_repeated(data, ("images", "classes"), [document.images], file, REMEDY)
    return _header(document, file, task), in_pieces(document.images, Picture, "images", file, data)


def _document(data: bytes | mmap.mmap, file: str) -> _Document:
    """The document with its images undecoded; the whole file's syntax is checked."""
    try:
        document = msgspec.json.decode(unmarked(data), type=_Document)
    except msgspec.ValidationError as error:
        whole = without_mark(bytes(data))
        dice.refuse_other_format(whole, file)
        raise InvalidDataset(printable(f"{file}: {wrong_field(str(error), whole)}; {REMEDY}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidDataset(printable(f"{file}: {wrong_json(error, without_mark(bytes(data)))}; {REMEDY}")) from None
    if document.is_coco:
        raise dice.other_format(file, "coco")
    if not re.fullmatch(r"1(\.\d+)*", document.format_version, re.ASCII):
        raise InvalidDataset(
            f"{file}: format_version: {shown(document.format_version)} can't be read, only DICE 1.x; "
            "export the dataset as DICE 1.0."
        )
    return document


def _header(document: _Document, file: str, task: str | None) -> Header:
    classes = _field(document.classes, tuple[Class, ...], "classes", file)
    statistics = _field(document.statistics, dice.Statistics | None, "statistics", file)
    if is_empty(document.images):
        raise InvalidDataset(f"{file}: images is empty; label at least one image and export again.")
    return Header(
        task=dice.checked_task(document.task_type, file, task),
        classes=dice.checked_classes(classes, file),
        dataset_id=None if document.dataset_id is None else str(document.dataset_id),
        dataset_name=document.dataset_name,
        statistics=statistics,
    )


def _field(raw: msgspec.Raw, type_: Any, name: str, file: str) -> Any:
    check_text(bytes(raw), name, file)
    try:
        return decode_whole(bytes(raw), type_)
    except msgspec.ValidationError as error:
        message = str(error)
        message = message.replace("`$", f"`$.{name}") if "`$" in message else f"{message} - at `$.{name}`"
        whole = b'{"%s":%s}' % (name.encode(), bytes(raw))
        raise InvalidDataset(printable(f"{file}: {wrong_field(message, whole)}; {REMEDY}")) from None
