"""Formats of labelled datasets: what a folder or prefix holds, told from its keys and the ends of a few files.

Each format is a module with one function, ``recognise``, and a row of FORMATS. The first that fits counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from visionloop.data.formats import coco, cvat, folders, labelstudio, voc, yolo
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline

__all__ = ["FORMATS", "Format", "Listing", "Outline", "named_file", "recognise"]


@dataclass(frozen=True)
class Format:
    """A format: its title, as in "a COCO dataset", and what finds it.

    ``recognise`` returns the file, or a phrase, that shows a listing to be of this format; None if it is not.
    """

    title: str
    recognise: Callable[[Listing], str | None]


#: By name, in the order in which they are tried: class folders fit only where nothing else does.
FORMATS: Mapping[str, Format] = {
    "coco": Format("a COCO dataset", coco.recognise),
    "labelstudio": Format("a Label Studio export", labelstudio.recognise),
    "cvat": Format("a CVAT export", cvat.recognise),
    "voc": Format("a Pascal VOC dataset", voc.recognise),
    "yolo": Format("a YOLO dataset", yolo.recognise),
    "folders": Format("an image folder", folders.recognise),
}


def recognise(listing: Listing) -> tuple[str, str] | None:
    """The name of the format that a listing is of, and what shows it; None if it is of none of them."""
    for name, candidate in FORMATS.items():
        if evidence := candidate.recognise(listing):
            return name, evidence
    return None


def named_file(outline: Outline) -> str | None:
    """The name of the format that a JSON file is of, by its outline, or None."""
    if coco.is_coco(outline):
        return "coco"
    return "labelstudio" if labelstudio.is_label_studio(outline) else None
