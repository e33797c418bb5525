"""The JSON document of DICE in pieces: its small fields typed, its images as spans of bytes that are decoded a few thousand at a time."""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from visionloop.core.encodings import without_mark
from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations import Class
from visionloop.data.dice import format as dice

#: How many images are decoded at once.
IMAGES_AT_ONCE = 5_000

#: How often the pages of the file that lie behind are given back, in pieces.
_RELEASED_AFTER = 20

Decoded = TypeVar("Decoded")


class _Document(Struct, kw_only=True):
    """The fields of a file; others are ignored. What may hold a whole number written as 128.0 is decoded by itself."""

    format_version: str
    classes: msgspec.Raw
    images: list[msgspec.Raw]
    task_type: str | None = None
    dataset_id: str | int | None = None
    dataset_name: str | None = None
    statistics: msgspec.Raw = msgspec.Raw(b"null")
    annotations: msgspec.Raw = msgspec.Raw()
    categories: msgspec.Raw = msgspec.Raw()

    @property
    def is_coco(self) -> bool:
        """Whether labels would be passed over: DICE has no such lists."""
        return bool(bytes(self.categories)) or bytes(self.annotations).strip(b"[] \t\r\n") not in (b"", b"null", b"{}")


class Label(Struct, gc=False, kw_only=True):
    """An annotation as it is decoded where columns can't be; as ``dice.Annotation``, but for its attributes."""

    class_id: dice.ClassId
    id: dice.Id = None
    image_id: dice.Id = None
    class_name: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    bbox_format: Literal["xywh", None] = None
    area: float | None = None
    iscrowd: Literal[0, 1, None] = None
    segmentation: tuple[tuple[float, ...], ...] | dice.RunLength | None = None
    keypoints: tuple[float, ...] | None = None


class Picture(Struct, gc=False, kw_only=True):
    """An image as it is decoded where columns can't be."""

    file_name: str
    width: dice.Pixels
    height: dice.Pixels
    id: dice.Id = None
    split: Literal["train", "val", "test", "valid", "validation", "", None] = None
    annotations: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Header:
    """What a file says beside its images."""

    task: str
    classes: tuple[Class, ...]
    dataset_id: str | None
    dataset_name: str | None
    statistics: dice.Statistics | None


@dataclass
class Piece:
    """Some images in a row: the index of the first, and each one's JSON."""

    first: int
    images: list[bytes]

    @cached_property
    def lines(self) -> bytes:
        """One image after the other, a line for each (but for line breaks within one)."""
        return b"\n".join(self.images)

    @cached_property
    def array(self) -> bytes:
        """The images as a JSON array."""
        return b"[" + b",".join(self.images) + b"]"

    def may_name(self, key: bytes) -> bool:
        """Whether an object of the piece may have a key; what is escaped may be any."""
        return b'"%s"' % key in self.lines or b"\\" in self.lines

    def check_text(self, file: str) -> None:
        """Raises InvalidDataset if it is not UTF-8."""
        if self.lines.isascii():
            return
        for index, image in enumerate(self.images):
            try:
                image.decode()
            except UnicodeDecodeError as error:
                where = f"images[{self.first + index}], byte {error.start} of it"
                raise InvalidDataset(f"{file}: the file is no UTF-8 text ({where}); {dice.REMEDY}") from None

    def decode(self, type_: type[Decoded], file: str) -> list[Decoded]:
        """The images as structs. Raises InvalidDataset with the field that is wrong."""
        try:
            images: list[Decoded] = decode_whole(self.array, list[type_])  # type: ignore[valid-type]
            return images
        except (msgspec.ValidationError, RecursionError) as error:
            text = dice.wrong_field(str(error), self.array)
            text = re.sub(r"^\[(\d+)\]", lambda match: f"images[{self.first + int(match[1])}]", text)
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


def split(data: bytes | mmap.mmap, file: str, task: str | None) -> tuple[Header, Iterator[Piece]]:
    """A file's header, and its images in pieces; no more than one of them is held.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        task: The task that it is read for, or None to take the file's own.

    Raises:
        InvalidDataset: If it is not DICE 1.x, is for another task, or has no image or no class.
    """
    document = _document(data, file)
    return _header(document, file, task), _pieces(document, data)


def _document(data: bytes | mmap.mmap, file: str) -> _Document:
    """The document with its images undecoded; the whole file's syntax is checked."""
    view = memoryview(data)
    try:
        document = msgspec.json.decode(view[len(_MARK) :] if view[: len(_MARK)] == _MARK else view, type=_Document)
    except msgspec.ValidationError as error:
        whole = without_mark(bytes(data))
        dice.refuse_other_format(whole, file)
        raise InvalidDataset(dice.printable(f"{file}: {dice.wrong_field(str(error), whole)}; {dice.REMEDY}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidDataset(
            dice.printable(f"{file}: {dice.wrong_json(error, without_mark(bytes(data)))}; {dice.REMEDY}")
        ) from None
    if document.is_coco:
        raise dice.other_format(file, "coco")
    if not re.fullmatch(r"1(\.\d+)*", document.format_version, re.ASCII):
        raise InvalidDataset(
            f"{file}: format_version: {dice.shown(document.format_version)} can't be read, only DICE 1.x; "
            "export the dataset as DICE 1.0."
        )
    return document


_MARK = b"\xef\xbb\xbf"


def _header(document: _Document, file: str, task: str | None) -> Header:
    classes = _field(document.classes, tuple[Class, ...], "classes", file)
    statistics = _field(document.statistics, dice.Statistics | None, "statistics", file)
    if not document.images:
        raise InvalidDataset(f"{file}: images is empty; label at least one image and export again.")
    return Header(
        task=dice.checked_task(document.task_type, file, task),
        classes=dice.checked_classes(classes, file),
        dataset_id=None if document.dataset_id is None else str(document.dataset_id),
        dataset_name=document.dataset_name,
        statistics=statistics,
    )


def _field(raw: msgspec.Raw, type_: Any, name: str, file: str) -> Any:
    try:
        return decode_whole(bytes(raw), type_)
    except msgspec.ValidationError as error:
        message = str(error)
        message = message.replace("`$", f"`$.{name}") if "`$" in message else f"{message} - at `$.{name}`"
        whole = b'{"%s":%s}' % (name.encode(), bytes(raw))
        raise InvalidDataset(dice.printable(f"{file}: {dice.wrong_field(message, whole)}; {dice.REMEDY}")) from None


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


def _pieces(document: _Document, data: bytes | mmap.mmap) -> Iterator[Piece]:
    """The images, a few thousand at a time; what lies behind is forgotten, of the list and of the file's pages."""
    images = document.images
    images.reverse()
    first = 0
    while images:
        taken = images[: -IMAGES_AT_ONCE - 1 : -1]
        del images[-len(taken) :]
        piece = Piece(first, [bytes(image) for image in taken])
        del taken
        yield piece
        first += len(piece.images)
        if isinstance(data, mmap.mmap) and (first // IMAGES_AT_ONCE) % _RELEASED_AFTER == 0:
            data.madvise(mmap.MADV_DONTNEED)
