"""The shapes of an image in CVAT's XML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.tables import hundredths
from visionloop.data.formats.cvat.masks import coco_mask
from visionloop.data.formats.rows import Box
from visionloop.data.formats.shapes import Drawn, Kind, Polygon, bounds, ellipse, turned
from visionloop.data.formats.xml_reader import REMEDY, number
from visionloop.data.sentences import shown

#: Shapes that no task is learned from.
_NOT_READ = {
    "polyline": ("polyline is", "polylines are"),
    "points": ("shape of single points is", "shapes of single points are"),
    "cuboid": ("cuboid is", "cuboids are"),
}


@dataclass(frozen=True)
class Shape:
    """A shape: its index in the image, its label, its kind and its geometry in pixels, and its attributes.

    ``problem`` is the sentence about a mask that is wrong; then it has no geometry.
    """

    position: int
    label: str
    kind: Kind
    box: Box | None = None
    polygon: Polygon | None = None
    mask: str | None = None
    keypoints: list[int] | None = None
    attributes: dict[str, Any] | None = None
    problem: str | None = None


def shapes(
    image: Element, size: tuple[int | None, int | None], keypoints: Mapping[str, list[str]], where: str, drawn: Drawn
) -> Iterator[Shape]:
    """The shapes of an image that are read; those that are not are counted.

    Args:
        image: The element.
        size: Its width and height in pixels, where stated.
        keypoints: The names of the keypoints of each label that is a skeleton, in their order.
        where: What names the image, for errors.
        drawn: Counts.

    Raises:
        InvalidDataset: If a value is missing or wrong.
    """
    for position, element in enumerate(image):
        if element.tag == "attribute":
            continue
        field = f"{where}.{element.tag}[{position}]"
        if words := _NOT_READ.get(element.tag):
            drawn.not_read[words] += 1
            continue
        if element.tag not in _KINDS:
            drawn.not_read[f"element {shown(element.tag)} is", f"elements {shown(element.tag)} are"] += 1
            continue
        label = (element.get("label") or "").strip()
        if not label:
            raise InvalidDataset(f"{field}: label is missing; {REMEDY}.")
        geometry: dict[str, Any] = {}
        if reader := _OUTLINES.get(element.tag):
            geometry = reader(element, field, drawn)
        elif element.tag == "mask":
            geometry = _mask(element, size, field)
        elif element.tag == "skeleton":
            geometry = _skeleton(element, keypoints.get(label, []), field)
        yield Shape(position, label, _KINDS[element.tag], attributes=_attributes(element), **geometry)


def _box(element: Element, field: str, drawn: Drawn) -> dict[str, Any]:
    left, top, right, bottom = (number(element.get(side), f"{field}.{side}") for side in ("xtl", "ytl", "xbr", "ybr"))
    box = (left, top, right - left, bottom - top)
    degrees = number(element.get("rotation", "0"), f"{field}.rotation") % 360
    if not degrees:
        return {"box": box}
    drawn.turned += 1
    polygon = turned(box, degrees, ((left + right) / 2, (top + bottom) / 2))
    return {"box": bounds(polygon), "polygon": polygon}


def _polygon(element: Element, field: str, drawn: Drawn) -> dict[str, Any]:
    polygon = points(element, field)
    if len(polygon) < 6:
        raise InvalidDataset(f"{field}.points: fewer than 3 corners; correct it in CVAT, or {REMEDY}.")
    return {"box": bounds(polygon), "polygon": polygon}


def _ellipse(element: Element, field: str, drawn: Drawn) -> dict[str, Any]:
    x, y, across, down = (number(element.get(name), f"{field}.{name}") for name in ("cx", "cy", "rx", "ry"))
    drawn.ellipses += 1
    polygon = ellipse((x, y), (across, down), number(element.get("rotation", "0"), f"{field}.rotation"))
    return {"box": bounds(polygon), "polygon": polygon}


def _mask(element: Element, size: tuple[int | None, int | None], field: str) -> dict[str, Any]:
    try:
        return coco_mask(element, size, field)
    except InvalidDataset as error:
        return {"problem": error.sentence}


def _skeleton(element: Element, names: list[str], field: str) -> dict[str, Any]:
    """The keypoints in the order of the label's, 0 for those that are outside, and the box around the others."""
    values = {name: [0, 0, 0] for name in names}
    seen: Polygon = []
    for index, point in enumerate(element.iterfind("points")):
        name, where = (point.get("label") or "").strip(), f"{field}.points[{index}]"
        if name not in values:
            raise InvalidDataset(
                f"{where}: {shown(name)} is not a keypoint of {shown(element.get('label'))}; {REMEDY}."
            )
        if point.get("outside") == "1":
            continue
        at = points(point, where)
        if len(at) != 2:
            raise InvalidDataset(f"{where}.points: not one point; {REMEDY}.")
        seen += at
        x, y = hundredths(np.array(at)).tolist()
        values[name] = [x, y, 1 if point.get("occluded") == "1" else 2]
    return {"box": bounds(seen) if seen else None, "keypoints": [value for entry in values.values() for value in entry]}


def points(element: Element, field: str) -> Polygon:
    """The attribute ``points``: ``x,y;x,y``, in pixels."""
    text = element.get("points")
    if not text:
        raise InvalidDataset(f"{field}.points is missing; {REMEDY}.")
    pairs = [pair.split(",") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidDataset(f"{field}.points: {shown(text)} is not a list of x,y;x,y; {REMEDY}.")
    return [number(value, f"{field}.points") for pair in pairs for value in pair]


def _attributes(element: Element) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        (entry.get("name") or "").strip(): (entry.text or "").strip() for entry in element.iterfind("attribute")
    }
    if element.get("occluded") == "1":
        attributes["occluded"] = 1
    return attributes


_OUTLINES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse}
_KINDS = {
    "box": Kind.RECTANGLE,
    "polygon": Kind.POLYGON,
    "ellipse": Kind.POLYGON,
    "mask": Kind.MASK,
    "skeleton": Kind.SKELETON,
    "tag": Kind.LABEL,
}
