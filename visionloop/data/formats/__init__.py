"""Formats of labelled datasets: which one a folder or prefix holds, by its keys and the ends of a few files, and how it is read.

Each format is a folder (or a module) and a row of FORMATS; a third party's is an entry point of the group ``visionloop.formats`` that
names a ``Format``. A format is recognised from a ``Listing``, and read from a ``Source`` into the canonical annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.outlined import with_outlines
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats import coco, cvat, dice, folders, labelstudio, voc, yolo
from visionloop.data.formats.listing import Listing
from visionloop.data.formats.outline import Outline
from visionloop.data.formats.source import Source

if TYPE_CHECKING:
    from visionloop.data.formats.written import Written

__all__ = [
    "FORMATS",
    "GROUP",
    "Format",
    "Listing",
    "Outline",
    "Source",
    "fitting",
    "formats",
    "named_file",
    "reader",
    "recognise",
    "writer",
]

#: The entry points of formats that other distributions bring.
GROUP = "visionloop.formats"


@dataclass(frozen=True)
class Format:
    """A format: its title, as in "a COCO dataset", what finds it, and what reads it.

    ``recognise`` returns the file, or a phrase, that shows a listing to be of this format; None if it is not. ``read`` reads a dataset
    into the canonical annotations, and raises InvalidDataset or InvalidConfig; None for a format that is only recognised. ``write`` names
    what makes the format's files of them, as ``module:function`` (``Written`` of ``visionloop.data.formats.written``), so that no
    stage depends on it; None for a format that is only read.
    """

    title: str
    recognise: Callable[[Listing], str | None]
    read: Callable[[Source], Annotations] | None = None
    write: str | None = None


#: By name, in the order in which they are tried: class folders fit only where nothing else does.
FORMATS: Mapping[str, Format] = {
    "dice": Format("a DICE dataset", dice.recognise, dice.read, "visionloop.data.formats.dice.writer:write"),
    "coco": Format("a COCO dataset", coco.recognise, coco.read, "visionloop.data.formats.coco.writer:write"),
    "labelstudio": Format("a Label Studio export", labelstudio.recognise, labelstudio.read),
    "cvat": Format("a CVAT export", cvat.recognise, cvat.read),
    "voc": Format("a Pascal VOC dataset", voc.recognise, voc.read, "visionloop.data.formats.voc.writer:write"),
    "yolo": Format("a YOLO dataset", yolo.recognise, yolo.read, "visionloop.data.formats.yolo.writer:write"),
    "folders": Format(
        "an image folder", folders.recognise, folders.read, "visionloop.data.formats.folders.writer:write"
    ),
}


def formats() -> dict[str, Format]:
    """Every format by name, other distributions' behind those of FORMATS."""
    others = catalog.loaded(GROUP, "format")
    return {**FORMATS, **{name: entry for name, entry in others.items() if name not in FORMATS}}


def fitting(listing: Listing, known: str | None = None) -> list[tuple[str, str]]:
    """The names of the formats that a listing fits, each with what shows it; class folders only where nothing else fits.

    Args:
        listing: What lies there.
        known: The format that it fitted before: while it does, the others are not tried.
    """
    entry = formats().get(known or "")
    if known and known != "folders" and entry and (evidence := entry.recognise(listing)):
        return [(known, evidence)]
    fits = [(name, evidence) for name, entry in formats().items() if (evidence := entry.recognise(listing))]
    return [fit for fit in fits if fit[0] != "folders"] or fits


def reader(name: str, option: str = "--format") -> Callable[[Source], Annotations]:
    """What reads a format; for segmentation masks of single objects become polygons.

    Raises:
        InvalidConfig: For a name that is not a format that is read; it names the option and those that are.
    """
    readers = {name: entry.read for name, entry in formats().items() if entry.read is not None}
    if name not in readers:
        raise InvalidConfig(f"{option} {name}: no such format is read; choose one of {', '.join(readers)}.")
    read = readers[name]
    return lambda source: with_outlines(read(source), source.alive)


def writer(name: str, option: str = "--format") -> Callable[[Annotations], Written]:
    """What writes a format. Raises InvalidConfig, with the option and the formats that are written, for another name."""
    writers = {name: entry.write for name, entry in formats().items() if entry.write is not None}
    if name not in writers:
        raise InvalidConfig(f"{option} {name}: no such format is written; choose one of {', '.join(writers)}.")
    write: Callable[[Annotations], Written] = resolve_name(writers[name])
    return write


def named_file(outline: Outline) -> str | None:
    """The name of the format that a JSON file is of, by its outline, or None."""
    if coco.is_coco(outline):
        return "coco"
    return "labelstudio" if labelstudio.is_label_studio(outline) else None
