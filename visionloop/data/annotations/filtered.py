"""What a ``--where`` keeps of a dataset: its conditions worked out on whole columns of the canonical tables."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import HUNDREDTHS, OBJECTS, PEOPLE, Annotations, column
from visionloop.data.annotations.where import (
    COLUMNS,
    KIND_WORDS,
    Column,
    Combination,
    Comparison,
    Condition,
    Kind,
    Level,
    Literals,
    Where,
    check_kinds,
    level_of,
)
from visionloop.data.sentences import printable, shown

_COMPARISONS: Mapping[type[ast.cmpop], Callable[..., Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}


def keep(read: Annotations, where: Where, option: str = "--where") -> Annotations:
    """The images and objects that an expression keeps.

    A term of image columns alone keeps images, one with an object column keeps objects. An image that so loses all its objects
    stays, as background. What is left out is counted in a notice.

    Args:
        read: The annotations, their objects ordered by image.
        where: The expression.
        option: Where it was written, for errors.

    Raises:
        InvalidDataset: If it names a value that nothing has, compares a text with a number, or keeps no image.
    """
    table = _Table(read, option)
    kept = {"image": np.ones(len(read.images), bool), "object": np.ones(len(read.objects), bool)}
    for term in where.terms:
        level = level_of(term)
        kept[level] &= np.asarray(pc.fill_null(_combined(table.value(term)), False))
    return _kept(read, kept["image"], kept["object"], where.text, option)


def _kept(read: Annotations, images: Any, objects: Any, text: str, option: str) -> Annotations:
    if not images.any():
        raise InvalidDataset(
            f"{read.file}: {option} {shown(text)} keeps none of the {len(images):,} images; write another expression."
        )
    image = column(read.objects, "image")
    chosen = images[image] & objects
    before = np.bincount(image, minlength=len(images)) > 0
    emptied = int((images & before & (np.bincount(image[chosen], minlength=len(images)) == 0)).sum())
    left_out = len(images) - int(images.sum()), len(image) - int(chosen.sum())
    names = read.images["file_name"].filter(pa.array(images)) if left_out[0] else read.images["file_name"]
    notice = (
        f"{option} leaves out {left_out[0]:,} of {len(images):,} images and {left_out[1]:,} of {len(image):,} objects"
    )
    if emptied:
        notice += f"; {emptied:,} of the images that stay lose all their objects and are background"
    if not left_out[1] and not left_out[0]:
        return replace(read, notices=(*read.notices, f"{notice}."))
    rows = np.cumsum(images) - 1
    table = read.objects.filter(pa.array(chosen)).combine_chunks()
    table = table.set_column(0, OBJECTS.field(0), pa.array(rows[image[chosen]].astype(np.int32)))
    present = set(names.to_pylist()) if read.findings or read.shared else set()
    return replace(
        read,
        images=read.images.filter(pa.array(images)).combine_chunks(),
        objects=table,
        shared=tuple(name for name in read.shared if name in present),
        findings=tuple(entry for entry in read.findings if entry.file_name is None or entry.file_name in present),
        notices=(*read.notices, f"{notice}."),
    )


class _Table:
    """The values of a dataset's columns; conditions of images are worked out once an image."""

    def __init__(self, read: Annotations, option: str) -> None:
        self.read, self.option = read, option
        self.image = read.objects["image"]
        self._free: dict[tuple[str, str], tuple[Any, Kind]] = {}

    def value(self, condition: Condition) -> Any:
        """Whether each image, or object, meets a condition; null where a value is not there."""
        if isinstance(condition, Combination):
            level = level_of(condition)
            parts = [self._at(self.value(part), level_of(part), level) for part in condition.parts]
            if condition.word == "not":
                return pc.invert(parts[0])
            joined = parts[0]
            for part in parts[1:]:
                joined = pc.and_kleene(joined, part) if condition.word == "and" else pc.or_kleene(joined, part)
            return joined
        if isinstance(condition, Column):
            values, kind = self._column(condition)
            if kind != "truth":
                raise InvalidDataset(
                    printable(
                        f"{self.option}, column {condition.at}: {condition} is {KIND_WORDS[kind]} in {self.read.file}, "
                        "not a condition; compare it with one."
                    )
                )
            return values
        return self._compared(condition)

    def _compared(self, compared: Comparison) -> Any:
        level = level_of(compared)
        sides, kinds = [], []
        for side in (compared.left, compared.right):
            if isinstance(side, Column):
                values, kind = self._column(side)
                sides.append(self._at(values, side.level, level))
                kinds.append(kind)
            else:
                sides.append(side)
                kinds.append(side.kind)
        check_kinds(compared, kinds, self.option, InvalidDataset)
        left, right = sides
        if compared.operator is not ast.In:
            arguments = [_whole(side.values[0]) if isinstance(side, Literals) else side for side in sides]
            return _COMPARISONS[compared.operator](*_of_one_type(arguments))
        if isinstance(right, Literals):
            inside = pc.is_in(_widest(left), value_set=_values_of(left.type, right.values))
            return pc.if_else(pc.is_valid(left), inside, pa.scalar(None, pa.bool_()))
        return pc.match_substring(right, left.values[0])

    def _at(self, values: Any, level: Level, wanted: Level) -> Any:
        """Values of images as those of objects, where objects are looked at."""
        return values if level == wanted else values.take(self.image)

    def _column(self, entry: Column) -> tuple[Any, Kind]:
        """A column's values, null where there is none, and their kind."""
        if entry.key is not None:
            return self._free_values(entry)
        read, name = self.read, entry.name
        values: Any
        if name == "class_name":
            ids = pa.array([item.id for item in read.classes], pa.int32())
            names = pa.array([item.name for item in read.classes], pa.string())
            values = names.take(pc.index_in(read.objects["class_id"], value_set=ids))
        elif name == "area":
            of_box = pc.multiply(self._pixels("width"), self._pixels("height"))
            values = pc.coalesce(read.objects["area"], of_box)
        elif name in ("box_width", "box_height"):
            values = self._pixels(name.removeprefix("box_"))
        else:
            values = (read.images if entry.level == "image" else read.objects)[name]
        return values, COLUMNS[name][1]

    def _pixels(self, side: str) -> Any:
        return pc.divide(self.read.objects[side].cast(pa.float64()), float(HUNDREDTHS))

    def _free_values(self, entry: Column) -> tuple[Any, Kind]:
        wanted = (entry.name, str(entry.key))
        if wanted not in self._free:
            self._free[wanted] = self._read_free(entry)
        return self._free[wanted]

    def _read_free(self, entry: Column) -> tuple[Any, Kind]:
        """The values of a free name. Raises InvalidDataset where nothing has it, or they are of several kinds."""
        table = self.read.images if entry.level == "image" else self.read.objects
        # Many images and objects say the same, so each text is decoded once.
        coded = _combined(table[entry.name]).dictionary_encode()
        # Whole objects: a struct's field can't have quotation marks in its name.
        values = [msgspec.json.decode(text).get(entry.key) for text in coded.dictionary.to_pylist()]
        kinds: dict[str, int] = {}
        for index, value in enumerate(values):
            if value is not None:
                kinds.setdefault(_kind_of(value), index)
        if not kinds:
            raise self._unknown(entry, coded.dictionary)
        if len(kinds) > 1 or "several" in kinds:
            raise InvalidDataset(
                printable(
                    f"{self.option}, column {entry.at}: {entry} in {self.read.file} is {' and '.join(map(_several, kinds))}; "
                    "a column needs values of one kind: correct the dataset, or select by something else."
                )
            )
        (kind,) = kinds
        return _array(values, kind).take(coded.indices), kind  # type: ignore[return-value]

    def _unknown(self, entry: Column, texts: Any) -> InvalidDataset:
        names: dict[str, None] = {}
        for text in texts.to_pylist()[:10_000]:
            names.update(dict.fromkeys(msgspec.json.decode(text)))
        existing = [name for name in names if name not in PEOPLE]
        near = difflib.get_close_matches(str(entry.key), existing, 1)
        meant = f" (did you mean {entry.name}.{near[0]}?)" if near else ""
        listed = ", ".join(sorted(existing)[:10]) or "none"
        more = f" and {len(existing) - 10} more" if len(existing) > 10 else ""
        things = "image" if entry.level == "image" else "object"
        return InvalidDataset(
            printable(
                f"{self.option}, column {entry.at}: no {things} of {self.read.file} has {entry}{meant}; there are {listed}{more}."
            )
        )


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "several"


def _several(kind: str) -> str:
    return {"several": "a list or an object"}.get(kind) or KIND_WORDS[kind]  # type: ignore[index]


def _array(values: Sequence[Any], kind: str) -> pa.Array:
    """Values of one kind without a loss: whole numbers stay whole where all of them are."""
    if kind != "number":
        return pa.array(values, pa.string() if kind == "text" else pa.bool_())
    if all(value is None or (isinstance(value, int) and -(2**63) <= value < 2**63) for value in values):
        return pa.array(values, pa.int64())
    return pa.array([_number(value) for value in values], pa.float64())


def _whole(value: Any) -> Any:
    """A literal; a float without a fraction as the whole number that it is, which is compared exactly with whole numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _of_one_type(sides: Sequence[Any]) -> list[Any]:
    """Numbers as floats where one side has fractions: pyarrow itself refuses a whole number that no float holds exactly."""
    if not any(isinstance(side, float) or (_is_column(side) and pa.types.is_floating(side.type)) for side in sides):
        return list(sides)
    return [pc.cast(side, pa.float64(), safe=False) if _is_column(side) else float(side) for side in sides]


def _is_column(side: Any) -> bool:
    return isinstance(side, pa.Array | pa.ChunkedArray)


def _widest(values: Any) -> Any:
    return values.cast(pa.int64()) if pa.types.is_integer(values.type) else values


def _values_of(of: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """The literals of a list as values of a column; of whole numbers those with a fraction equal none."""
    if pa.types.is_integer(of):
        return pa.array([value for value in map(_whole, values) if isinstance(value, int)], pa.int64())
    return pa.array([float(value) for value in values] if pa.types.is_floating(of) else values, of)


def _number(value: int | float | None) -> float | None:
    """A number as a float; one that is too large for that is infinite."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return float("inf") if value is not None and value > 0 else float("-inf")


def _combined(values: Any) -> Any:
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
