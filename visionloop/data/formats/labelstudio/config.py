"""The labelling configuration, config.xml: which field of a task names the image, and the labels in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.rows import check_class_name
from visionloop.data.formats.xml_reader import whole

FILE = "config.xml"

#: The elements that hold labels.
_CONTROLS = ("Labels", "RectangleLabels", "PolygonLabels", "EllipseLabels", "BrushLabels", "KeyPointLabels", "Choices")


@dataclass(frozen=True)
class Configuration:
    """What config.xml says: the field of the image, where it names one, and the labels, each with the kind of its control."""

    field: str | None
    labels: tuple[str, ...]
    choices: tuple[str, ...]


def parse(data: bytes) -> Configuration:
    """Reads config.xml. Raises InvalidDataset if it is not a labelling configuration."""
    view = whole(data, FILE, "View")
    fields = [value[1:] for image in view.iter("Image") if (value := image.get("value", "")).startswith("$")]
    if len(fields) > 1:
        raise InvalidDataset(
            f"{FILE}: it labels several images at once, which is not read; export a project with one <Image>."
        )
    labels: dict[str, None] = {}
    choices: dict[str, None] = {}
    for control in view.iter():
        if control.tag in _CONTROLS:
            names = choices if control.tag == "Choices" else labels
            names.update(dict.fromkeys(_names(control)))
    return Configuration(fields[0] if fields else None, tuple(labels), tuple(choices))


def _names(control: Element) -> Iterator[str]:
    """The names as they stand in the results: an alias in place of the value."""
    for tag in ("Label", "Choice"):
        for entry in control.iter(tag):
            name = entry.get("alias") or entry.get("value") or ""
            check_class_name(name, f"{FILE}: <{control.tag}>")
            yield name
