"""A piece of a DICE file as columns: by Arrow's JSON reader where it can, else from structs that say which field is wrong."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from visionloop.data.dice import format as dice
from visionloop.data.formats.dice.document import Picture, Piece


def _schema(identity: pa.DataType, *more: tuple[str, pa.DataType]) -> pa.Schema:
    """The columns of a piece, with ids of a type: whole numbers, or texts; ``more`` are fields of its annotations."""
    label = pa.struct(
        [
            ("class_id", pa.int32()),
            ("id", identity),
            ("image_id", identity),
            ("class_name", pa.string()),
            ("bbox", pa.list_(pa.float64())),
            ("bbox_format", pa.string()),
            ("area", pa.float64()),
            ("iscrowd", pa.int8()),
            ("segmentation", pa.list_(pa.list_(pa.float64()))),
            ("keypoints", pa.list_(pa.float64())),
            *more,
        ]
    )
    image = [("file_name", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("id", identity)]
    return pa.schema([*image, ("split", pa.string()), ("annotations", pa.list_(label))])


#: The schema by the type of ids: most files number them.
SCHEMAS = {"numbers": _schema(pa.int64()), "texts": _schema(pa.string())}

#: The schema of a piece with run-length masks, which Arrow's reader can't tell from polygons.
_WITH_MASKS = _schema(pa.string(), ("mask", pa.string()))

_SPLITS = pa.array(["train", "val", "test", "valid", "validation", ""])


def table_of(piece: Piece, file: str, ids: str) -> tuple[pa.Table, str]:
    """A piece as one of SCHEMAS, tried first with ``ids``, and the name of the one that fits.

    Raises:
        InvalidDataset: If a value is missing or not of its type; the sentence says which field.
    """
    piece.check_text(file)
    lines = piece.lines
    for name in (ids, *(other for other in SCHEMAS if other != ids)):
        table = _parsed(lines, SCHEMAS[name])
        if table is not None and len(table) == len(piece.images):
            return table, name
    return _from_structs(piece, file), "texts"


def _parsed(lines: bytes, schema: pa.Schema) -> pa.Table | None:
    """The lines as columns; None where they are not what the schema says, or might not be."""
    try:
        table = pj.read_json(
            io.BytesIO(lines),
            parse_options=pj.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=True
            ),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        ).combine_chunks()
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return table if _is_plain(table) else None


def _is_plain(table: pa.Table) -> bool:
    """Whether every value is there and allowed."""
    if any(table[name].null_count for name in ("file_name", "width", "height", "annotations")):
        return False
    if (pc.min(table["width"]).as_py() or 0) < 1 or (pc.min(table["height"]).as_py() or 0) < 1:
        return False
    if not _all(pc.is_in(table["split"].drop_null(), _SPLITS)):
        return False
    labels = flattened(table["annotations"])
    if labels.null_count or labels.field("class_id").null_count:
        return False
    boxes, formats, crowd = (labels.field(name).drop_null() for name in ("bbox", "bbox_format", "iscrowd"))
    polygons, keypoints = (labels.field(name).flatten() for name in ("segmentation", "keypoints"))
    return bool(
        _all(pc.equal(pc.list_value_length(boxes), 4))
        and not boxes.flatten().null_count
        and _all(pc.equal(formats, "xywh"))
        and _all(pc.is_in(crowd, pa.array([0, 1], pa.int8())))
        and not (polygons.null_count or polygons.flatten().null_count or keypoints.null_count)
    )


def _all(values: pa.Array) -> bool:
    """Whether every value is true; also of none."""
    return bool(pc.all(values, min_count=0).as_py())


def flattened(lists: pa.ChunkedArray) -> pa.Array:
    """The elements of a column of lists, one after the other."""
    combined = lists.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], lists.type)
    return combined.flatten()


def _from_structs(piece: Piece, file: str) -> pa.Table:
    """The columns from structs: slower, but with the field that is wrong, and with run-length masks."""
    rows = []
    for picture in piece.decode(Picture, file):
        row = msgspec.structs.asdict(picture) | {"id": _text(picture.id)}
        row["annotations"] = labels = []
        for label in picture.annotations:
            values: dict[str, Any] = msgspec.structs.asdict(label)
            values |= {"id": _text(label.id), "image_id": _text(label.image_id), "mask": None}
            if isinstance(label.segmentation, dice.RunLength):
                counts = label.segmentation.counts
                mask = {"counts": counts if isinstance(counts, str) else list(counts), "size": label.segmentation.size}
                values |= {"segmentation": None, "mask": json.dumps(mask, separators=(",", ":"))}
            labels.append(values)
        rows.append(row)
    return pa.Table.from_pylist(rows, _WITH_MASKS)


def masks(labels: pa.Array) -> pa.Array:
    """The run-length masks of annotations as JSON; null where there is none."""
    return labels.field("mask") if labels.type.get_field_index("mask") >= 0 else pa.nulls(len(labels), pa.string())


def _text(identity: str | int | None) -> str | None:
    """An id as text, with which an image's and an annotation's are compared."""
    return None if identity is None else str(identity)


def lengths(lists: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many elements each list has; 0 for null."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
