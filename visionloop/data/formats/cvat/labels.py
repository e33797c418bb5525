"""The labels of CVAT's XML: the classes in their order, and the keypoints of those that are skeletons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.rows import check_class_name
from visionloop.data.formats.xml_reader import REMEDY
from visionloop.data.sentences import shown


@dataclass
class Labels:
    """The labels of all files.

    Attributes:
        names: The classes in the order in which they are stated.
        colors: The color of each that has one.
        keypoints: The keypoints of each that is a skeleton, in their order.
    """

    names: list[str] = field(default_factory=list)
    colors: dict[str, str] = field(default_factory=dict)
    keypoints: dict[str, list[str]] = field(default_factory=dict)

    def add(self, meta: Element, file: str) -> None:
        """Adds those of an element ``meta``. Raises InvalidDataset for a label without a name, or that is two skeletons."""
        points: dict[str, list[str]] = {}
        for label in _labels(meta):
            name = (label.findtext("name") or "").strip()
            check_class_name(name, f"{file}: meta.labels")
            if parent := (label.findtext("parent") or "").strip():
                points.setdefault(parent, []).append(name)
                continue
            if name not in self.names:
                self.names.append(name)
            if color := (label.findtext("color") or "").strip():
                self.colors.setdefault(name, color)
        for name, keypoints in points.items():
            if self.keypoints.setdefault(name, keypoints) != keypoints or len(set(keypoints)) != len(keypoints):
                raise InvalidDataset(f"{file}: meta.labels: {shown(name)} has two lists of keypoints; {REMEDY}.")


def _labels(meta: Element) -> Iterator[Element]:
    """The labels of a task, a job or a project."""
    for owner in meta:
        yield from owner.iterfind("labels/label")
