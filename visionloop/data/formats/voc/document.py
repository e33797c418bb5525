"""One XML file of Pascal VOC: the size of its image and its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.rows import Box
from visionloop.data.formats.xml_reader import REMEDY, number, pixels, whole
from visionloop.data.sentences import shown

#: Attributes that are 0 or 1; 0 is what a file says that says nothing.
FLAGS = ("difficult", "truncated", "occluded")

#: Poses that say nothing.
_NO_POSE = ("", "unspecified")


@dataclass(frozen=True)
class Object:
    """An object: its class, its box in pixels from 0, and its attributes without those that say nothing."""

    name: str
    box: Box
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Document:
    """What a file says: the name of the image, its size where stated, its objects, and the root's other texts."""

    file_name: str
    size: tuple[int | None, int | None]
    objects: tuple[Object, ...]
    fields: dict[str, str]


def parse(data: bytes, file: str) -> Document:
    """Reads a file. Raises InvalidDataset with the field that is wrong."""
    root = whole(data, file, "annotation")
    width, height = (pixels(root.findtext(f"size/{side}"), f"{file}: size.{side}") for side in ("width", "height"))
    return Document(
        file_name=(root.findtext("filename") or "").strip(),
        size=(width, height),
        objects=tuple(_objects(root, file)),
        fields={child.tag: text for child in root if not len(child) and (text := (child.text or "").strip())},
    )


def _objects(root: Element, file: str) -> Iterator[Object]:
    for index, element in enumerate(root.findall("object")):
        where = f"{file}: object[{index}]"
        for tag in ("name", "bndbox"):
            if len(element.findall(tag)) > 1:
                raise InvalidDataset(f"{where}.{tag} stands twice; leave one, or {REMEDY}.")
        name = (element.findtext("name") or "").strip()
        if not name:
            raise InvalidDataset(f"{where}.name is missing; {REMEDY}.")
        box = element.find("bndbox")
        if box is None:
            raise InvalidDataset(f"{where}.bndbox is missing, and other shapes than boxes are not read; {REMEDY}.")
        left, top, right, bottom = (
            number(box.findtext(side), f"{where}.bndbox.{side}") for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # Pixels count from 1, and both corners belong to the box.
        yield Object(name, (left - 1, top - 1, right - left + 1, bottom - top + 1), _attributes(element, where))


def _attributes(element: Element, where: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for flag in FLAGS:
        text = (element.findtext(flag) or "0").strip().lower()
        if text not in ("0", "1", "false", "true", *_NO_POSE):
            raise InvalidDataset(f"{where}.{flag}: {shown(text)} is not 0 or 1; correct it, or {REMEDY}.")
        if text in ("1", "true"):
            attributes[flag] = 1
    pose = (element.findtext("pose") or "").strip()
    if pose.lower() not in _NO_POSE:
        attributes["pose"] = pose
    for entry in element.iterfind("attributes/attribute"):
        if name := (entry.findtext("name") or "").strip():
            attributes[name] = (entry.findtext("value") or "").strip()
    return attributes
