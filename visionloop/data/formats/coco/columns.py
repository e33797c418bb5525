"""A piece of COCO's images or annotations as columns: by Arrow's JSON reader where it can, else from structs that say which field is wrong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import BOX, hundredths, objects_table
from visionloop.data.dice import format as dice
from visionloop.data.formats.coco.document import REMEDY, Label, Picture
from visionloop.data.formats.columns import boxes, canonical, every, flattened, keypoints, other_area, parsed, polygons
from visionloop.data.formats.document import Piece

#: Ids are whole numbers in nearly every file; where they are not, texts.
IDS = (pa.int64(), pa.string())


def _picture(identity: pa.DataType) -> pa.Schema:
    return pa.schema([("id", identity), ("file_name", pa.string()), ("width", pa.int32()), ("height", pa.int32())])


def _label(identity: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            ("image_id", identity),
            ("category_id", pa.int32()),
            ("bbox", pa.list_(pa.float64())),
            ("area", pa.float64()),
            ("iscrowd", pa.int8()),
            ("segmentation", pa.list_(pa.list_(pa.float64()))),
            ("keypoints", pa.list_(pa.float64())),
            ("mask", pa.string()),
        ]
    )


def pictures(piece: Piece, file: str) -> pa.Table:
    """Id, file name, width and height of images; 0 or null for a size that is not stated.

    Raises:
        InvalidDataset: If a value is missing or not of its type; the sentence says which field.
    """
    piece.check_text(file)
    for identity in IDS:
        table = parsed(piece, _picture(identity))
        if table is not None and len(table) == len(piece.elements) and _are_pictures(table):
            return table
    rows = [msgspec.structs.asdict(picture) | {"id": str(picture.id)} for picture in piece.decode(Picture, file)]
    return pa.Table.from_pylist(rows, _picture(pa.string()))


def _are_pictures(table: pa.Table) -> bool:
    sizes = (pc.min(table[name]).as_py() or 0 for name in ("width", "height"))
    return not (table["id"].null_count or table["file_name"].null_count) and all(size >= 0 for size in sizes)


def labels(piece: Piece, file: str) -> tuple[pa.ChunkedArray, pa.Table]:
    """The ids of annotations' images, and their objects, of which ``image`` is 0 and ``class_id`` the category's id in the file.

    The objects with run-length masks stand behind the others.

    Raises:
        InvalidDataset: If a value is missing or not of its type; the sentence says which field.
    """
    piece.check_text(file)
    masked = np.zeros(len(piece.elements), bool)
    if b'"counts"' in piece.lines:
        masked = np.array([b'"counts"' in element for element in piece.elements])
    tables, positions = [], []
    for some in (~masked, masked):
        rows = np.flatnonzero(some)
        if len(rows):
            tables.append(_labels(piece, file, rows, plain=some is not masked))
            positions.append(rows)
    ids = pa.chunked_array([chunk for table in _same_ids(tables) for chunk in table["image_id"].chunks])
    attributes = _attributes(piece, file)
    objects = [
        _objects(table, rows + piece.first, attributes.take(pa.array(rows)))
        for table, rows in zip(tables, positions, strict=True)
    ]
    return ids, pa.concat_tables(objects)


def _same_ids(tables: list[pa.Table]) -> list[pa.Table]:
    """Tables whose ids are of one type."""
    if len({table["image_id"].type for table in tables}) == 1:
        return tables
    return [table.set_column(0, "image_id", table["image_id"].cast(pa.string())) for table in tables]


def _labels(piece: Piece, file: str, rows: np.ndarray[Any, Any], *, plain: bool) -> pa.Table:
    """The annotations in some rows of a piece; ``plain`` ones are tried as columns first."""
    whole = len(rows) == len(piece.elements)
    some = piece if whole else Piece(piece.first, [piece.elements[row] for row in rows.tolist()], piece.name)
    for identity in IDS if plain else ():
        table = parsed(some, _label(identity))
        # A label has no such key: it would be taken for a mask.
        if table is not None and not table["mask"].null_count < len(table) and _are_labels(table, len(rows)):
            return table
    try:
        decoded = some.decode(Label, file)
    except InvalidDataset:
        piece.decode(Label, file)  # its error names the annotation by its index in the file
        raise
    return pa.Table.from_pylist([_row(label) for label in decoded], _label(pa.string()))


def _are_labels(table: pa.Table, length: int) -> bool:
    if len(table) != length or table["image_id"].null_count or table["category_id"].null_count:
        return False
    box, outline = table["bbox"].drop_null(), flattened(table["segmentation"])
    return bool(
        every(pc.equal(pc.list_value_length(box), 4))
        and not flattened(box).null_count
        and every(pc.is_in(table["iscrowd"].drop_null(), pa.array([0, 1], pa.int8())))
        and not (outline.null_count or outline.flatten().null_count or flattened(table["keypoints"]).null_count)
    )


def _row(label: Label) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.structs.asdict(label)
    values |= {"image_id": str(label.image_id), "mask": None, "iscrowd": int(label.iscrowd or 0)}
    if isinstance(label.segmentation, dice.RunLength):
        counts = label.segmentation.counts
        mask = {"counts": counts if isinstance(counts, str) else list(counts), "size": label.segmentation.size}
        values |= {"segmentation": None, "mask": json.dumps(mask, separators=(",", ":"))}
    return values


def _objects(table: pa.Table, position: np.ndarray[Any, Any], attributes: pa.Array) -> pa.Table:
    table = table.combine_chunks()
    columns = {name: _combined(table[name]) for name in table.column_names}
    box = boxes(columns["bbox"])
    corners = {
        name: pa.array(hundredths(box[:, index]), mask=np.isnan(box[:, index])) for index, name in enumerate(BOX)
    }
    return objects_table(
        image=np.zeros(len(table), np.int32),
        position=position.astype(np.int32),
        class_id=columns["category_id"],
        **corners,
        area=other_area(columns["area"], box),
        iscrowd=pc.equal(pc.fill_null(columns["iscrowd"], 0), 1),
        polygons=polygons(columns["segmentation"]),
        mask=columns["mask"],
        keypoints=keypoints(columns["keypoints"]),
        attributes=attributes,
    )


def _combined(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


class _Attributed(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = msgspec.Raw()


def _attributes(piece: Piece, file: str) -> pa.Array:
    """The attributes of each annotation in canonical JSON; null where there are none."""
    if not piece.may_name(b"attributes"):
        return pa.nulls(len(piece.elements), pa.string())
    raw = (label.attributes for label in msgspec.json.decode(piece.array, type=list[_Attributed]))
    return canonical(raw, lambda row: f"{file}: annotations[{piece.first + row}].attributes", REMEDY)
