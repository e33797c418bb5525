"""The regions of an annotation as shapes in pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.labelstudio import brush
from visionloop.data.formats.labelstudio.document import REMEDY, Region, Value
from visionloop.data.formats.rows import Box
from visionloop.data.formats.shapes import Drawn, Kind, Polygon, bounds, ellipse, turned

#: What is not read of a result, by its type, in words for one and for several.
_NOT_READ = {
    "keypoint": ("key point is", "key points are"),
    "keypointlabels": ("key point is", "key points are"),
}

#: Types of shapes without labels of their own, which another entry with the same id may give them.
_BARE = frozenset({"rectangle", "polygon", "ellipse", "brush", "keypoint"})


@dataclass(frozen=True)
class Shape:
    """A shape: its index in ``result``, its labels, its kind and its geometry in pixels, and its attributes.

    ``problem`` is the sentence about a mask that is wrong; then it has no geometry.
    """

    position: int
    labels: tuple[str, ...]
    kind: Kind
    box: Box | None = None
    polygon: Polygon | None = None
    mask: str | None = None
    attributes: Mapping[str, Any] | None = None
    problem: str | None = None


def shapes(result: tuple[Region, ...], size: tuple[float, float] | None, where: str, drawn: Drawn) -> Iterator[Shape]:
    """The regions that are read; those that are not are counted.

    Args:
        result: The entries.
        size: Width and height of the picture in pixels, for entries that state none; None where it can't be read.
        where: What names the annotation, for errors.
        drawn: Counts.

    Raises:
        InvalidDataset: If a value is missing or wrong.
    """
    labelled = {region.id for region in result if region.id is not None and region.value and _labels(region.value)}
    attributes = _attributes(result)
    for position, region in enumerate(result):
        value, labels = region.value, _labels(region.value) if region.value else ()
        if value is None:
            drawn.not_read[f"entry of type {region.type!r} is", f"entries of type {region.type!r} are"] += 1
        elif region.type == "choices":
            if not _is_shape(value):
                yield Shape(position, value.choices or (), Kind.LABEL)
        elif words := _not_read(region.type, value):
            if not (region.type in _BARE and region.id in labelled):
                drawn.not_read[words] += 1
        elif labels:
            geometry = _geometry(value, _size(region, size), f"{where}.result[{position}].value", drawn)
            if geometry is None:
                drawn.not_read["brush mask without a painted pixel is", "brush masks without a painted pixel are"] += 1
            else:
                yield Shape(position, labels, attributes=attributes.get(region.id), **geometry)
        elif region.id not in labelled:
            drawn.not_read["shape without a label is", "shapes without a label are"] += 1


def _not_read(type_: str, value: Value) -> tuple[str, str] | None:
    """The words for what is not read; None for a shape that is."""
    if words := _NOT_READ.get(type_):
        return words
    if not _is_shape(value):
        return f"entry of type {type_!r} is", f"entries of type {type_!r} are"
    if value.points is None and value.radiusX is None and value.height is None and not bytes(value.rle):
        return _NOT_READ["keypoint"]
    return None


def _is_shape(value: Value) -> bool:
    return value.x is not None or value.points is not None or bool(bytes(value.rle))


def _labels(value: Value) -> tuple[str, ...]:
    return (
        value.rectanglelabels
        or value.polygonlabels
        or value.ellipselabels
        or value.brushlabels
        or value.keypointlabels
        or value.labels
        or ()
    )


def _attributes(result: tuple[Region, ...]) -> dict[str | int | None, dict[str, Any]]:
    """What is chosen of single regions, by their ids."""
    attributes: dict[str | int | None, dict[str, Any]] = {}
    for region in result:
        if region.type == "choices" and region.value and region.value.choices and _is_shape(region.value):
            chosen = region.value.choices
            name = region.from_name or "choices"
            attributes.setdefault(region.id, {})[name] = chosen[0] if len(chosen) == 1 else list(chosen)
    return attributes


def _size(region: Region, size: tuple[float, float] | None) -> tuple[float, float] | None:
    """The size that a region states, else the picture's."""
    if region.original_width and region.original_height:
        return region.original_width, region.original_height
    return size


def _geometry(value: Value, size: tuple[float, float] | None, where: str, drawn: Drawn) -> dict[str, Any] | None:
    """Kind, box, and polygon or mask, in pixels; without the picture's size the kind alone. None where nothing is painted."""
    if bytes(value.rle):
        try:
            painted = brush.geometry(bytes(value.rle), size, where) if size else {}
        except InvalidDataset as error:
            return {"kind": Kind.MASK, "problem": error.sentence}
        return None if painted is None else {"kind": Kind.MASK} | painted
    if value.points is not None:
        if len(value.points) < 3:
            raise InvalidDataset(f"{where}.points: fewer than 3 corners; correct it, and {REMEDY}")
        if size is None:
            return {"kind": Kind.POLYGON}
        polygon = [side / 100 * total for point in value.points for side, total in zip(point, size, strict=True)]
        return {"kind": Kind.POLYGON, "box": bounds(polygon), "polygon": polygon}
    degrees = (value.rotation or 0) % 360
    if value.radiusX is not None:
        x, y, across, down = _pixels(value, ("x", "y", "radiusX", "radiusY"), size, where)
        drawn.ellipses += 1
        polygon = ellipse((x, y), (across, down), degrees)
        return {"kind": Kind.POLYGON} | ({"box": bounds(polygon), "polygon": polygon} if size else {})
    x, y, width, height = _pixels(value, ("x", "y", "width", "height"), size, where)
    if size is None:
        return {"kind": Kind.RECTANGLE}
    if not degrees:
        return {"kind": Kind.RECTANGLE, "box": (x, y, width, height)}
    drawn.turned += 1
    polygon = turned((x, y, width, height), degrees, (x, y))
    return {"kind": Kind.RECTANGLE, "box": bounds(polygon), "polygon": polygon}


def _pixels(
    value: Value, names: tuple[str, str, str, str], size: tuple[float, float] | None, where: str
) -> tuple[float, float, float, float]:
    """Four values in percent as pixels: of the width, the height, the width and the height."""
    percents = [getattr(value, name) for name in names]
    for name, percent in zip(names, percents, strict=True):
        if percent is None:
            raise InvalidDataset(f"{where}.{name} is missing; {REMEDY}")
    width, height = size or (0, 0)
    first, second, third, fourth = percents
    return first / 100 * width, second / 100 * height, third / 100 * width, fourth / 100 * height
