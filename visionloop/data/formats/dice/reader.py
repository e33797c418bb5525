"""Reads a DICE file into the canonical annotations, a few thousand images at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset, NotFound
from visionloop.data.annotations import Annotations, hundredths, images_table, objects_table
from visionloop.data.annotations.tables import WRONG_VISIBILITY
from visionloop.data.dice import format as dice
from visionloop.data.dice.tasks import choose_task
from visionloop.data.formats.dice.columns import SCHEMAS, flattened, lengths, masks, table_of
from visionloop.data.formats.dice.document import Header, Piece, decode_whole, mapped, split
from visionloop.data.formats.dice.stated import AREA_TOLERANCE, Contradictions, stated
from visionloop.data.formats.source import Source

#: The folder of a dataset's images.
BELOW = "images"

#: Who labelled an image, and when: never kept.
PEOPLE = frozenset({"labeled_by", "labeled_at", "reviewed_by", "reviewed_at"})

#: Names that no image's key can be: what RE2 finds here is looked at again for the sentence.
_SUSPICIOUS = r"^$|^/|/$|//|(^|/)\.\.?(/|$)|\\|[\x00-\x1f\x7f\x{80}-\x{9f}]"

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


def read_file(data: bytes, file: str, task: str | None) -> Annotations:
    """A DICE file in memory as canonical annotations.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        task: The task that it is read for, or None to take the file's own.

    Raises:
        InvalidDataset: If it is not DICE; the sentence says which field.
    """
    header, pieces = split(data, file, task)
    return _annotations(header, pieces, file, None, lambda: None)


def _annotations(
    header: Header, pieces: Iterator[Piece], file: str, group: str | None, alive: Callable[[], None]
) -> Annotations:
    """The tables of all pieces, and what the file states beside them."""
    images: list[pa.Table] = []
    objects: list[pa.Table] = []
    contradictions = Contradictions(file, header.classes)
    free = _Free(file, group)
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
    hostile = pc.or_(
        pc.match_substring_regex(names, _SUSPICIOUS), pc.greater(pc.binary_length(names), dice.LONGEST_FILE_NAME)
    )
    for index in pc.indices_nonzero(hostile).to_pylist():
        name = names[index].as_py()
        if reason := dice.hostile(name):
            raise InvalidDataset(f"{file}: images[{index}].file_name: {dice.shown(name)} {reason}; {dice.REMEDY}")
    if pc.count_distinct(names).as_py() == len(names):
        return
    first_index: dict[str, int] = {}
    for index, name in enumerate(names.to_pylist()):
        if (first := first_index.setdefault(name, index)) != index:
            raise InvalidDataset(
                f"{file}: images[{index}].file_name: {dice.shown(name)} is already the name of images[{first}]; "
                f"{dice.REMEDY}"
            )


def _images(table: pa.Table, piece: Piece, free: _Free) -> pa.Table:
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
        area=_area(labels.field("area"), box),
        iscrowd=pc.equal(pc.fill_null(labels.field("iscrowd"), 0), 1),
        polygons=_polygons(labels.field("segmentation")),
        mask=masks(labels),
        keypoints=_keypoints(labels.field("keypoints")),
        attributes=_attributes(piece, position, image, file),
    )


def boxes(lists: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Boxes as rows of x, y, width and height in pixels; NaN where there is none."""
    box = np.full((len(lists), 4), np.nan)
    box[np.asarray(lists.is_valid())] = np.asarray(lists.flatten(), np.float64).reshape(-1, 4)
    return box


def _area(area: pa.Array, box: np.ndarray[Any, np.dtype[np.float64]]) -> pa.Array:
    """The areas that are not those of the boxes."""
    stated_area = np.asarray(area.to_numpy(zero_copy_only=False), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        product = box[:, 2] * box[:, 3]
        same = np.abs(stated_area - product) <= AREA_TOLERANCE * product
    return pa.array(stated_area, mask=np.isnan(stated_area) | same)


def _polygons(lists: pa.Array) -> pa.Array:
    """Polygons in hundredths; an empty list is none."""
    inner = lists.flatten()
    whole = pa.array(hundredths(np.asarray(inner.flatten(), np.float64)))
    inner_ends = np.concatenate([[0], np.cumsum(lengths(inner))]).astype(np.int32)
    polygons = pa.ListArray.from_arrays(pa.array(inner_ends), whole)
    return _lists(lengths(lists), polygons)


def _keypoints(lists: pa.Array) -> pa.Array:
    """Keypoints with x and y in hundredths, and a visibility of 0, 1, 2 or WRONG_VISIBILITY; an empty list is none."""
    values = np.asarray(lists.flatten(), np.float64)
    counts = lengths(lists)
    begin = np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts, counts)
    visibility = (np.arange(len(values)) - begin) % 3 == 2
    whole = hundredths(values)
    whole[visibility] = np.where(np.isin(values, (0, 1, 2)), values, WRONG_VISIBILITY)[visibility].astype(np.int32)
    return _lists(counts, pa.array(whole))


def _lists(counts: np.ndarray[Any, np.dtype[np.int64]], values: pa.Array) -> pa.Array:
    """Lists of these lengths; null where one is empty."""
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    # A null at an offset makes its list null.
    return pa.ListArray.from_arrays(pa.array(ends, mask=np.concatenate([counts == 0, [False]])), values)


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
    canonical: dict[bytes, str | None] = {b"": None, b"{}": None, b"null": None}
    texts: list[str | None] = []
    for row, value in enumerate(raw):
        text = bytes(value)
        if text not in canonical:
            try:
                canonical[text] = _canonical(text)
            except ValueError as error:
                where = f"images[{image[row]}].annotations[{position[row]}].attributes"
                raise InvalidDataset(f"{file}: {where}: {error}; {dice.REMEDY}") from None
        texts.append(canonical[text])
    return pa.array(texts, pa.string())


def _canonical(text: bytes) -> str | None:
    """A JSON object in canonical form, None for an empty one. Raises ValueError with what is wrong."""
    value = msgspec.json.decode(text)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"expected an object, got {dice.shown(value)}")
    if dice.depth(value) > dice.DEEPEST:
        raise ValueError(f"nested deeper than {dice.DEEPEST} levels")
    try:
        return rfc8785.dumps(value).decode() if value else None
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from None


class _Free:
    """The free values of images: their metadata, and the field that groups them."""

    def __init__(self, file: str, group: str | None) -> None:
        """``group`` is a field of an image, or of its ``metadata`` or ``attributes``; the first that has it counts."""
        self.file, self.group = file, group
        self.grouped = 0
        fields: list[Any] = [("metadata", Any, None)]
        if group is not None:
            if group in ("file_name", "annotations", "metadata", "attributes"):
                raise InvalidConfig(f"group={group} groups no images; name another field of the images in {file}.")
            fields += [("attributes", Any, None), ("value", Any, msgspec.field(name=group, default=None))]
        self.type = msgspec.defstruct("Free", fields, gc=False)

    def read(self, piece: Piece) -> tuple[pa.Array, pa.Array]:
        """The group and the metadata of each image of a piece."""
        if self.group is None and not piece.may_name(b"metadata"):
            return (pa.nulls(len(piece.images), pa.string()),) * 2
        groups, metadata = [], []
        for row, image in enumerate(decode_whole(piece.array, list[self.type])):  # type: ignore[name-defined]
            metadata.append(_metadata(image.metadata))
            groups.append(None if self.group is None else self._group(image, piece.first + row))
        return pa.array(groups, pa.string()), pa.array(metadata, pa.string())

    def _group(self, image: Any, index: int) -> str | None:
        holders = [holder for holder in (image.metadata, image.attributes) if isinstance(holder, dict)]
        values = [image.value, *(holder.get(self.group) for holder in holders)]
        value = next((value for value in values if value not in (None, "")), None)
        if isinstance(value, list | dict):
            raise InvalidConfig(
                f"{self.file}: images[{index}]: group={self.group} is a list or an object; name another field."
            )
        self.grouped += value is not None
        if value is None or isinstance(value, str):
            return value
        return str(rfc8785.dumps(value), "utf-8")

    def finish(self) -> None:
        """Raises InvalidConfig if no image has the group's field."""
        if self.group is not None and not self.grouped:
            raise InvalidConfig(
                f"{self.file}: group={self.group} is a field of no image; name one that the images have."
            )


_ENCODER = msgspec.json.Encoder(order="sorted")


def _metadata(value: object) -> str | None:
    """Free values without people and dates; None if nothing is left, or they are nested too deeply."""
    if not isinstance(value, dict):
        return None
    kept = {key: item for key, item in value.items() if key not in PEOPLE}
    with contextlib.suppress(RecursionError):
        return _ENCODER.encode(kept).decode() if kept and dice.depth(kept) <= dice.DEEPEST else None
    return None
