"""Lines of JSON as columns by Arrow's reader, and boxes, polygons and keypoints in them as canonical columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import rfc8785

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import WRONG_VISIBILITY, hundredths
from visionloop.data.dice import format as dice
from visionloop.data.formats.document import Piece

#: Relative tolerance between a box's ``area`` and width × height: a tool may compute it before rounding the box.
AREA_TOLERANCE = 1e-4


def parsed(piece: Piece, schema: pa.Schema) -> pa.Table | None:
    """A piece's elements as columns; None where a value is not of the type that the schema says. NaN and null are taken."""
    # Arrow's reader ends the whole process at a line that is no object.
    if not all(element.lstrip()[:1] == b"{" for element in piece.elements):
        return None
    lines = piece.lines
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
    return table


def every(values: pa.Array) -> bool:
    """Whether every value is true; also of none."""
    return bool(pc.all(values, min_count=0).as_py())


def flattened(lists: pa.ChunkedArray) -> pa.Array:
    """The elements of a column of lists, one after the other."""
    combined = lists.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], lists.type)
    return combined.flatten()


def lengths(lists: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many elements each list has; 0 for null."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)


def boxes(lists: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Boxes as rows of x, y, width and height in pixels; NaN where there is none."""
    box = np.full((len(lists), 4), np.nan)
    box[np.asarray(lists.is_valid())] = np.asarray(lists.flatten(), np.float64).reshape(-1, 4)
    return box


def other_area(area: pa.Array, box: np.ndarray[Any, np.dtype[np.float64]]) -> pa.Array:
    """The areas that are not those of the boxes."""
    stated_area = np.asarray(area.to_numpy(zero_copy_only=False), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        product = box[:, 2] * box[:, 3]
        same = np.abs(stated_area - product) <= AREA_TOLERANCE * product
    return pa.array(stated_area, mask=np.isnan(stated_area) | same)


def polygons(lists: pa.Array) -> pa.Array:
    """Polygons in hundredths; an empty list is none."""
    inner = lists.flatten()
    whole = pa.array(hundredths(np.asarray(inner.flatten(), np.float64)))
    inner_ends = np.concatenate([[0], np.cumsum(lengths(inner))]).astype(np.int32)
    return lists_of(lengths(lists), pa.ListArray.from_arrays(pa.array(inner_ends), whole))


def keypoints(lists: pa.Array) -> pa.Array:
    """Keypoints with x and y in hundredths, and a visibility of 0, 1, 2 or WRONG_VISIBILITY; an empty list is none."""
    values = np.asarray(lists.flatten(), np.float64)
    counts = lengths(lists)
    begin = np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts, counts)
    visibility = (np.arange(len(values)) - begin) % 3 == 2
    whole = hundredths(values)
    whole[visibility] = np.where(np.isin(values, (0, 1, 2)), values, WRONG_VISIBILITY)[visibility].astype(np.int32)
    return lists_of(counts, pa.array(whole))


def lists_of(counts: np.ndarray[Any, np.dtype[np.int64]], values: pa.Array) -> pa.Array:
    """Lists of these lengths; null where one is empty."""
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    # A null at an offset makes its list null.
    return pa.ListArray.from_arrays(pa.array(ends, mask=np.concatenate([counts == 0, [False]])), values)


def canonical(values: Iterable[msgspec.Raw], where: Callable[[int], str], remedy: str) -> pa.Array:
    """JSON objects as texts in canonical form (RFC 8785); null for an empty one and for null.

    Args:
        values: The objects; of a value that is missing no bytes.
        where: Names a row, for errors.
        remedy: What to do, for errors.

    Raises:
        InvalidDataset: If one is not an object, is nested too deeply, or holds a number that JSON can't hold exactly.
    """
    texts: dict[bytes, str | None] = {b"": None, b"{}": None, b"null": None}
    rows: list[str | None] = []
    for row, value in enumerate(values):
        data = bytes(value)
        if data not in texts:
            try:
                texts[data] = _canonical(data)
            except ValueError as error:
                raise InvalidDataset(f"{where(row)}: {error}; {remedy}") from None
        rows.append(texts[data])
    return pa.array(rows, pa.string())


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
