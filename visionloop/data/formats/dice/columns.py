"""A piece of a DICE file as columns: by Arrow's JSON reader where it can, else from structs that say which field is wrong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.dice import format as dice
from visionloop.data.formats.columns import every, flattened, parsed
from visionloop.data.formats.dice.document import Picture
from visionloop.data.formats.document import Piece


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
    for name in (ids, *(other for other in SCHEMAS if other != ids)):
        table = parsed(piece, SCHEMAS[name])
        if table is not None and len(table) == len(piece.elements) and _is_plain(table):
            return table, name
    return _from_structs(piece, file), "texts"


def _is_plain(table: pa.Table) -> bool:
    """Whether every value is there and allowed."""
    if any(table[name].null_count for name in ("file_name", "width", "height", "annotations")):
        return False
    if (pc.min(table["width"]).as_py() or 0) < 1 or (pc.min(table["height"]).as_py() or 0) < 1:
        return False
    if not every(pc.is_in(table["split"].drop_null(), _SPLITS)):
        return False
    labels = flattened(table["annotations"])
    if labels.null_count or labels.field("class_id").null_count:
        return False
    boxes, formats, crowd = (labels.field(name).drop_null() for name in ("bbox", "bbox_format", "iscrowd"))
    polygons, keypoints = (labels.field(name).flatten() for name in ("segmentation", "keypoints"))
    return bool(
        every(pc.equal(pc.list_value_length(boxes), 4))
        and not boxes.flatten().null_count
        and every(pc.equal(formats, "xywh"))
        and every(pc.is_in(crowd, pa.array([0, 1], pa.int8())))
        and not (polygons.null_count or polygons.flatten().null_count or keypoints.null_count)
    )


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
