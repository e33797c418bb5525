"""Objects as they are decoded, collected into canonical columns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rfc8785
from msgspec import Struct

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import BOX, OBJECTS, WRONG_VISIBILITY, hundredths, objects_table
from visionloop.data.dice import format as dice
from visionloop.data.formats.document import NOTHING
from visionloop.data.formats.nesting import DEEPEST, depth
from visionloop.data.sentences import printable, shown

#: Relative tolerance between a box's ``area`` and width × height: a tool may compute it before rounding the box.
AREA_TOLERANCE = 1e-4

#: A list of four numbers in MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).
_FOUR = np.dtype([("list", "u1"), ("numbers", [("type", "u1"), ("value", ">f8")], (4,))])

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Shape(Struct, gc=False, kw_only=True):
    """What the annotations of DICE and of COCO have in common, as they are decoded; see ``dice.Annotation``."""

    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: bool | Literal[0, 1, None] = None
    segmentation: tuple[tuple[float, ...], ...] | dice.RunLength | None = None
    keypoints: tuple[float, ...] | None = None
    attributes: msgspec.Raw = NOTHING


class Objects:
    """Collects the columns of objects, some at a time."""

    def __init__(self) -> None:
        """Without an object."""
        self._class_id: list[npt.NDArray[np.int32]] = []
        self._box: list[npt.NDArray[np.int32]] = []
        self._without_box: list[npt.NDArray[np.bool_]] = []
        self._iscrowd: list[npt.NDArray[np.bool_]] = []
        self._optional = {name: Optional(OBJECTS.field(name).type) for name in _OPTIONAL}

    def add(
        self, labels: Sequence[Shape], class_ids: Collection[int], where: Callable[[int], str], remedy: str
    ) -> tuple[Numbers, Numbers | None]:
        """Adds objects.

        Args:
            labels: As they are decoded.
            class_ids: The id of each one's class.
            where: Names the attributes of one of these labels, for errors.
            remedy: What to do, for errors.

        Returns:
            Their boxes as rows of x, y, width and height in pixels, and their stated areas, as ``numbers`` gives them.

        Raises:
            InvalidDataset: If attributes are not an object, are nested too deeply, or hold a number that JSON can't hold exactly.
        """
        box = boxes([label.bbox for label in labels])
        self._class_id.append(np.fromiter(class_ids, np.int32, len(class_ids)))
        self._box.append(np.ascontiguousarray(hundredths(box).T))
        self._without_box.append(np.isnan(box[:, 0]))
        self._iscrowd.append(_is_one([label.iscrowd for label in labels]))
        area = numbers([label.area for label in labels])
        columns = {
            "area": None if area is None else _other_area(area, box),
            **_outlines([label.segmentation for label in labels]),
            "keypoints": _keypoints([label.keypoints for label in labels]),
            "attributes": _attributes([label.attributes for label in labels], where, remedy),
        }
        for name, values in columns.items():
            self._optional[name].add(values, len(labels))
        return box, area

    def table(self, image: Any, position: Any) -> pa.Table:
        """All objects, with the row of each one's image and the object's position; what was collected is let go."""
        box, without = _joined(self._box, np.empty((4, 0), np.int32)), _joined(self._without_box, np.empty(0, bool))
        mask = without if without.any() else None
        return objects_table(
            image=pa.array(image, pa.int32()),
            position=pa.array(position, pa.int32()),
            class_id=pa.array(_joined(self._class_id, np.empty(0, np.int32))),
            **{name: pa.array(values, mask=mask) for name, values in zip(BOX, box, strict=True)},
            iscrowd=pa.array(_joined(self._iscrowd, np.empty(0, bool))),
            **{name: column.whole() for name, column in self._optional.items()},
        )


_OPTIONAL = ("area", "polygons", "mask", "keypoints", "attributes")


class Optional:
    """Collects a column that many datasets lack."""

    def __init__(self, type_: pa.DataType) -> None:
        """``type_`` is that of its values."""
        self.type = type_
        self._parts: list[pa.Array | int] = []

    def add(self, values: pa.Array | None, length: int) -> None:
        """Adds values; None for as many nulls."""
        self._parts.append(length if values is None else values)

    def whole(self) -> pa.ChunkedArray | None:
        """The column; None without a value. What was collected is let go."""
        parts, self._parts = self._parts, []
        if all(isinstance(part, int) for part in parts):
            return None
        chunks = [pa.nulls(part, self.type) if isinstance(part, int) else part for part in parts]
        return pa.chunked_array(chunks, self.type)


def _joined(parts: list[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Arrays one after the other, by their last axis."""
    whole = np.concatenate(parts, axis=-1) if parts else empty
    parts.clear()
    return whole


def boxes(values: Sequence[tuple[float, float, float, float] | None]) -> Numbers:
    """Boxes as rows of x, y, width and height in pixels; NaN where there is none."""
    if not values:
        return np.empty((0, 4))
    # MessagePack writes the numbers side by side, in a quarter of the time in which NumPy reads tuples.
    packed = msgspec.msgpack.encode(values)
    head = len(packed) - _FOUR.itemsize * len(values)
    if head > 0:
        return np.frombuffer(packed, _FOUR, offset=head)["numbers"]["value"].astype(np.float64)
    whole = np.full((len(values), 4), np.nan)
    rows = [row for row, value in enumerate(values) if value is not None]
    if rows:
        whole[rows] = boxes([values[row] for row in rows])
    return whole


def numbers(values: list[float] | list[float | None]) -> Numbers | None:
    """Numbers, NaN where there is none; None without any."""
    if values.count(None) == len(values):  # type: ignore[arg-type]
        return None
    return np.array(values, np.float64)


def _is_one(values: list[int | None]) -> npt.NDArray[np.bool_]:
    if values.count(0) + values.count(None) == len(values):
        return np.zeros(len(values), bool)
    return np.fromiter([value == 1 for value in values], bool, len(values))


def _other_area(stated: Numbers, box: Numbers) -> pa.Array | None:
    """The areas that are not those of the boxes."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = box[:, 2] * box[:, 3]
        same = np.isnan(stated) | (np.abs(stated - product) <= AREA_TOLERANCE * product)
    return None if same.all() else pa.array(stated, mask=same)


def _outlines(values: list[tuple[tuple[float, ...], ...] | dice.RunLength | None]) -> dict[str, pa.Array | None]:
    """Polygons in hundredths, an empty list being none, and run-length masks as JSON."""
    if values.count(None) == len(values):
        return {"polygons": None, "mask": None}
    masks = [_mask(value) if isinstance(value, dice.RunLength) else None for value in values]
    outlines = [() if value is None or isinstance(value, dice.RunLength) else value for value in values]
    rings = list(itertools.chain.from_iterable(outlines))
    counts = _lengths(rings)
    whole = pa.array(hundredths(_flat(rings, counts)))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    polygons = _lists_of(_lengths(outlines), pa.ListArray.from_arrays(pa.array(ends), whole))
    return {
        "polygons": polygons if rings else None,
        "mask": None if masks.count(None) == len(masks) else pa.array(masks, pa.string()),
    }


def _mask(value: dice.RunLength) -> str:
    counts = value.counts if isinstance(value.counts, str) else list(value.counts)
    return json.dumps({"counts": counts, "size": value.size}, separators=(",", ":"))


def _keypoints(values: list[tuple[float, ...] | None]) -> pa.Array | None:
    """Keypoints with x and y in hundredths, and a visibility of 0, 1, 2 or WRONG_VISIBILITY; an empty list counts as no keypoints."""
    if values.count(None) == len(values):
        return None
    lists = [value or () for value in values]
    counts = _lengths(lists)
    pixels = _flat(lists, counts)
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    visibility = (np.arange(len(pixels)) - begin) % 3 == 2
    whole = hundredths(pixels)
    whole[visibility] = np.where(np.isin(pixels, (0, 1, 2)), pixels, WRONG_VISIBILITY)[visibility].astype(np.int32)
    return _lists_of(counts, pa.array(whole))


def _flat(lists: Iterable[tuple[float, ...]], counts: Counts) -> Numbers:
    """The numbers of lists of these lengths, one after the other."""
    return np.fromiter(itertools.chain.from_iterable(lists), np.float64, int(counts.sum()))


def _lengths(lists: Collection[tuple[Any, ...]]) -> Counts:
    """How many elements each list has."""
    return np.fromiter(map(len, lists), np.int64, len(lists))


def _lists_of(counts: Counts, values: pa.Array) -> pa.Array:
    """Lists of these lengths; null where one is empty."""
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    # A null at an offset makes its list null.
    return pa.ListArray.from_arrays(pa.array(ends, mask=np.concatenate([counts == 0, [False]])), values)


def _attributes(values: list[msgspec.Raw], where: Callable[[int], str], remedy: str) -> pa.Array | None:
    """The attributes of labels in canonical JSON."""
    return None if values.count(NOTHING) == len(values) else canonical(values, where, remedy)


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
            except (ValueError, msgspec.DecodeError) as error:
                raise InvalidDataset(printable(f"{where(row)}: {error}; {remedy}")) from None
        rows.append(texts[data])
    return pa.array(rows, pa.string())


def _canonical(text: bytes) -> str | None:
    """A JSON object in canonical form, None for an empty one. Raises ValueError or DecodeError with what is wrong."""
    value = msgspec.json.decode(text)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"expected an object, got {shown(value)}")
    if depth(value) > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    try:
        return rfc8785.dumps(value).decode() if value else None
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from None
