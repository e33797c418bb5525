"""Reads a DICE file into the canonical annotations, a few thousand images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import DatasetNotFound, InvalidDataset, NotFound
from visionloop.data.annotations.tables import Annotations, hundredths, images_table, objects_table
from visionloop.data.dice import format as dice
from visionloop.data.dice.tasks import choose_task
from visionloop.data.formats.columns import boxes, canonical, flattened, keypoints, lengths, other_area, polygons
from visionloop.data.formats.dice.columns import SCHEMAS, masks, table_of
from visionloop.data.formats.dice.document import Header, split
from visionloop.data.formats.dice.stated import Contradictions, stated
from visionloop.data.formats.document import Piece, mapped
from visionloop.data.formats.free import Free
from visionloop.data.formats.names import check_names
from visionloop.data.formats.source import Source

#: The folder of a dataset's images.
BELOW = "images"

_SPLIT_ALIASES = {"valid": "val", "validation": "val", "": None}


def read_dice(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.dice.read``."""
    try:
        _, objects = source.prefix.children()
    except NotFound:
        raise DatasetNotFound(f"{source.prefix.uri}: there is no such bucket; correct --dataset.") from None
    task, file = choose_task([info.key for info in objects], source.task, source.prefix.uri)
    try:
        path = source.local(file)
    except NotFound:
        raise DatasetNotFound(f"{source.prefix.uri}/{file}: the file is gone; export the dataset again.") from None
    with mapped(path) as data:
        header, pieces = split(data, file, task)
        return _annotations(header, pieces, file, source.group, source.alive)


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
    return _annotations(header, pieces, file, group, lambda: None)


def _annotations(
    header: Header, pieces: Iterator[Piece], file: str, group: str | None, alive: Callable[[], None]
) -> Annotations:
    """The tables of all pieces, and what the file states beside them."""
    images: list[pa.Table] = []
    objects: list[pa.Table] = []
    contradictions = Contradictions(file, header.classes)
    free = Free(file, group)
    ids = next(iter(SCHEMAS))
    for piece in pieces:
        table, ids = table_of(piece, file, ids)
        images.append(_images(table, piece, free))
        objects.append(_objects(table, piece, file))
        contradictions.add(table, piece.first)
        alive()
    free.finish()
    read = Annotations(
        format="dice",
        task=header.task,
        file=file,
        classes=header.classes,
        images=pa.concat_tables(images).combine_chunks(),
        objects=pa.concat_tables(objects).combine_chunks(),
        below=BELOW,
        object_field="images[{image}].annotations[{object}]",
        metadata={"dataset_id": header.dataset_id, "dataset_name": header.dataset_name},
    )
    _check_names(read.images["file_name"], file)
    return replace(read, findings=(*contradictions.findings, *stated(read, header)))


def _check_names(names: pa.ChunkedArray, file: str) -> None:
    """Raises InvalidDataset for a file name that can't be a key, or that occurs twice."""
    check_names(names, file, 0, dice.REMEDY)
    if pc.count_distinct(names).as_py() == len(names):
        return
    first_index: dict[str, int] = {}
    for index, name in enumerate(names.to_pylist()):
        if (first := first_index.setdefault(name, index)) != index:
            raise InvalidDataset(
                f"{file}: images[{index}].file_name: {dice.shown(name)} is already the name of images[{first}]; "
                f"{dice.REMEDY}"
            )


def _images(table: pa.Table, piece: Piece, free: Free) -> pa.Table:
    names = table["file_name"]
    split = table["split"]
    for alias, name in _SPLIT_ALIASES.items():
        split = pc.if_else(pc.equal(split, alias), pa.scalar(name, pa.string()), split)
    groups, metadata = free.read(piece)
    return images_table(
        file_name=names,
        key=pc.binary_join_element_wise(f"{BELOW}/", names, ""),
        width=table["width"],
        height=table["height"],
        split=split,
        position=np.arange(piece.first, piece.first + len(table), dtype=np.int32),
        group=groups,
        metadata=metadata,
    )


def _objects(table: pa.Table, piece: Piece, file: str) -> pa.Table:
    labels = flattened(table["annotations"])
    counts = lengths(table["annotations"].combine_chunks())
    image = np.repeat(np.arange(piece.first, piece.first + len(table)), counts)
    begin = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    position = np.arange(len(labels)) - np.repeat(begin, counts)
    box = boxes(labels.field("bbox"))
    columns: dict[str, Any] = {
        name: pa.array(hundredths(box[:, index]), mask=np.isnan(box[:, index]))
        for index, name in enumerate(("x", "y", "width", "height"))
    }
    return objects_table(
        image=image,
        position=position,
        class_id=labels.field("class_id"),
        **columns,
        area=other_area(labels.field("area"), box),
        iscrowd=pc.equal(pc.fill_null(labels.field("iscrowd"), 0), 1),
        polygons=polygons(labels.field("segmentation")),
        mask=masks(labels),
        keypoints=keypoints(labels.field("keypoints")),
        attributes=_attributes(piece, position, image, file),
    )


class _Attributes(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = msgspec.Raw()


class _Attributed(msgspec.Struct, gc=False):
    annotations: tuple[_Attributes, ...] | None = None


def _attributes(piece: Piece, position: Any, image: Any, file: str) -> pa.Array:
    """The attributes of each annotation in canonical JSON; null where there are none.

    Raises:
        InvalidDataset: If they are not an object, are nested too deeply, or hold a number that JSON can't hold exactly.
    """
    if not piece.may_name(b"attributes"):
        return pa.nulls(len(position), pa.string())
    raw = [
        label.attributes
        for picture in msgspec.json.decode(piece.array, type=list[_Attributed])
        for label in picture.annotations or ()
    ]
    return canonical(
        raw, lambda row: f"{file}: images[{image[row]}].annotations[{position[row]}].attributes", dice.REMEDY
    )
