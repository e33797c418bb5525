"""Reads a DICE file into the canonical annotations, some hundred images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from visionloop.core.errors import DatasetNotFound, InvalidDataset, NotFound
from visionloop.data.annotations.tables import Annotations
from visionloop.data.dice.tasks import METADATA, TASKS, annotation_file, choose_task
from visionloop.data.formats.dice.columns import BELOW, Columns
from visionloop.data.formats.dice.document import Header, Picture, split
from visionloop.data.formats.dice.stated import Contradictions, stated
from visionloop.data.formats.document import Piece, mapped
from visionloop.data.formats.free import Free
from visionloop.data.formats.json_errors import REMEDY
from visionloop.data.formats.keys import counted, extension, named
from visionloop.data.formats.listing import is_hidden
from visionloop.data.formats.names import check_names, repeated
from visionloop.data.formats.source import Source
from visionloop.data.sentences import printable, shown


def read_dice(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.dice.read``."""
    try:
        _, objects = source.prefix.children()
    except NotFound:
        raise DatasetNotFound(f"{source.prefix.uri}: there is no such bucket; correct the URI.") from None
    keys = [info.key for info in objects]
    task, file = choose_task(keys, source.task, source.prefix.uri)
    known = {file, METADATA, *map(annotation_file, TASKS)}
    others = [key for key in keys if extension(key) == ".json" and key not in known and not is_hidden(key)]
    with mapped(source.local(file)) as data:
        header, pieces = split(data, file, task)
        read = _annotations(header, pieces, Free(file, source.group, source.option), source.alive)
    if not others:
        return read
    words = counted(len(others), f"JSON file beside {file} is", f"JSON files beside {file} are")
    return replace(read, notices=(*read.notices, printable(f"{words} passed over ({named(others)}).")))


def read_file(data: bytes, file: str, task: str | None, group: str | None = None) -> Annotations:
    """A DICE file in memory as canonical annotations.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        task: The task that it is read for, or None to take the file's own.
        group: The field of the images whose value keeps images in one split, or None.

    Raises:
        InvalidConfig: If the group names nothing.
        InvalidDataset: If it is not DICE; the sentence says which field.
    """
    header, pieces = split(data, file, task)
    return _annotations(header, pieces, Free(file, group), lambda: None)


def _annotations(
    header: Header, pieces: Iterator[Piece[Picture]], free: Free, alive: Callable[[], None]
) -> Annotations:
    """The tables of all pieces, and what the file states besides them."""
    file = free.file
    contradictions = Contradictions(file, header.classes)
    columns = Columns(file, free, contradictions)
    for piece in pieces:
        columns.add(piece)
        alive()
    free.finish()
    images, objects = columns.tables()
    read = Annotations(
        format="dice",
        task=header.task,
        file=file,
        classes=header.classes,
        images=images,
        objects=objects,
        below=BELOW,
        object_field="images[{image}].annotations[{object}]",
        metadata={"dataset_id": header.dataset_id, "dataset_name": header.dataset_name},
    )
    _check_names(images["file_name"], file)
    return replace(read, findings=(*contradictions.findings, *stated(read, header)))


def _check_names(names: pa.ChunkedArray, file: str) -> None:
    """Raises InvalidDataset for a file name that can't be a key, or that occurs twice."""
    check_names(names, file, 0, REMEDY)
    if pair := repeated(names):
        first, index = pair
        name = shown(names[index].as_py())
        raise InvalidDataset(
            f"{file}: images[{index}].file_name: {name} is already the name of images[{first}]; {REMEDY}"
        )
