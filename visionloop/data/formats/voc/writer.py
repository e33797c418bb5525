"""Writes canonical annotations as Pascal VOC: an XML file for each image, lists of the splits, and the images in ``JPEGImages/``."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.labels import view_names
from visionloop.data.annotations.tables import BOX, HUNDREDTHS, SPLITS, Annotations, column
from visionloop.data.formats.keys import stem
from visionloop.data.formats.voc.document import FLAGS
from visionloop.data.formats.written import (
    Chosen,
    Losses,
    Written,
    boxed,
    crowds,
    pieces,
    ranked,
    readable,
    renamed,
    unsaid,
)
from visionloop.data.sentences import shown

#: Characters that XML can't hold (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(read: Annotations) -> Written:
    """The annotations as Pascal VOC.

    What it can't say: crowds, classes without an object, objects without a box, free values of images, names with spaces
    (its lists end a name there), and attributes that are not texts, which become texts.

    Raises:
        InvalidConfig: For another task than detection.
        InvalidDataset: If a class has a name that XML does not keep.
    """
    if read.task != "detection":
        raise InvalidConfig(
            f"Pascal VOC holds boxes alone, and the dataset is for {read.task}; choose another --format, or --task detection."
        )
    for entry in read.classes:
        if entry.name != entry.name.strip() or _NOT_XML.search(entry.name):
            raise InvalidDataset(
                f"{read.file}: XML does not keep the class name {shown(entry.name)}; rename the class, or choose another --format."
            )
    losses = Losses()
    kept = readable(read, losses)
    names = read.images["file_name"].to_pylist()
    views = view_names(name for name, keep in zip(names, kept, strict=True) if keep)
    views = {name: view.replace(" ", "%20") for name, view in views.items()}
    renamed(losses, list(views), views, "as XML files are called by an image's stem, and lists end a name at a space")
    images = {int(row): views[names[row]] for row in np.flatnonzero(kept)}
    _count(read, kept, losses)
    return Written([(row, f"JPEGImages/{view}") for row, view in images.items()], _files(read, images, losses), losses)


def _count(read: Annotations, kept: Chosen, losses: Losses) -> None:
    """Counts what has no field."""
    unsaid(read, losses, "Pascal VOC", "polygons", "mask", "keypoints", "area", "metadata")
    losses.add(
        len(read.shared), "image is", "images are", "of val and of test, and a name may stand in one list: it is of val"
    )
    crowd, box = crowds(read.objects), boxed(read.objects)
    of_class = np.isin(column(read.objects, "class_id"), [entry.id for entry in read.classes])
    written = kept[column(read.objects, "image")]
    losses.add(int((crowd & written).sum()), "crowd region is", "crowd regions are", "left out: Pascal VOC has none")
    losses.add(int((~of_class & ~crowd & written).sum()), "object has", "objects have", "the id of no class: left out")
    losses.add(int((~box & of_class & ~crowd & written).sum()), "object has", "objects have", "no box: left out")
    used = set(column(read.objects, "class_id")[~crowd & box & written].tolist())
    empty = [entry.name for entry in ranked(read) if entry.id not in used]
    losses.add(
        len(empty),
        "class has",
        "classes have",
        f"no object, and Pascal VOC names classes in objects alone ({', '.join(empty[:3])})",
    )


def _files(read: Annotations, images: Mapping[int, str], losses: Losses) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The lists, then the XML files, which show the format."""
    splits = read.images["split"].to_pylist()
    for split in SPLITS:
        listed = [stem(view) for row, view in images.items() if splits[row] == split]
        if listed:
            yield f"ImageSets/Main/{split}.txt", ["".join(f"{name}\n" for name in listed).encode()]
    _check_lists(images, splits, losses)
    names = {entry.id: entry.name for entry in read.classes}
    for piece in pieces(read):
        kept = ~crowds(piece.objects) & boxed(piece.objects)
        objects: list[list[dict[str, Any]]] = [[] for _ in range(len(piece.images))]
        rows = zip(piece.image.tolist(), piece.objects.to_pylist(), kept.tolist(), strict=True)
        for image, row, keep in rows:
            if keep and row["class_id"] in names:
                objects[image].append(row)
        for number, (image, own) in enumerate(zip(piece.images.to_pylist(), objects, strict=True), piece.first):
            if (view := images.get(number)) is not None:
                yield f"Annotations/{stem(view)}.xml", [_document(view, image, own, names, losses)]


def _check_lists(images: Mapping[int, str], splits: list[str | None], losses: Losses) -> None:
    """Counts the images without a split whose last name stands in a list: that list counts for them too."""
    listed = {stem(view) for row, view in images.items() if splits[row]}
    number = sum(splits[row] is None and stem(view).rpartition("/")[2] in listed for row, view in images.items())
    losses.add(
        number,
        "image states",
        "images state",
        "no split, but another image of the same last name does: it gets that one",
    )


def _document(
    view: str, image: Mapping[str, Any], objects: list[dict[str, Any]], names: Mapping[int, str], losses: Losses
) -> bytes:
    root = Element("annotation")
    folder, _, name = view.rpartition("/")
    SubElement(root, "folder").text = f"JPEGImages/{folder}".rstrip("/")
    SubElement(root, "filename").text = name
    size = SubElement(root, "size")
    for side, value in (("width", image["width"] or 0), ("height", image["height"] or 0), ("depth", 3)):
        SubElement(size, side).text = str(value)
    for row in objects:
        _object(SubElement(root, "object"), row, names[row["class_id"]], losses)
    indent(root)
    data: bytes = tostring(root, encoding="utf-8")
    return data + b"\n"


def _object(element: Element, row: Mapping[str, Any], name: str, losses: Losses) -> None:
    attributes: dict[str, Any] = json.loads(row["attributes"]) if row["attributes"] else {}
    SubElement(element, "name").text = name
    pose = attributes.get("pose")
    keeps_pose = isinstance(pose, str) and _kept(pose) and pose.lower() != "unspecified"
    SubElement(element, "pose").text = str(pose) if keeps_pose else "Unspecified"
    flags = {flag for flag in FLAGS if attributes.get(flag) in (1, "1") and not isinstance(attributes.get(flag), bool)}
    for flag in FLAGS:
        SubElement(element, flag).text = "1" if flag in flags else "0"
    others = {
        key: value for key, value in attributes.items() if key not in flags and not (key == "pose" and keeps_pose)
    }
    if others:
        _others(element, others, losses)
    # Pixels count from 1, and both corners belong to the box.
    x, y, width, height = (row[side] for side in BOX)
    box = SubElement(element, "bndbox")
    corners = {"xmin": x + HUNDREDTHS, "ymin": y + HUNDREDTHS, "xmax": x + width, "ymax": y + height}
    for corner, value in corners.items():
        whole, rest = divmod(value, HUNDREDTHS)
        SubElement(box, corner).text = str(value / HUNDREDTHS) if rest else str(whole)


def _others(element: Element, others: Mapping[str, Any], losses: Losses) -> None:
    """Attributes without a field of their own; values that are not texts are written as JSON."""
    counts: Counter[str] = Counter()
    parent: Element | None = None
    for key, value in others.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        if not _kept(key) or not _kept(text) or key in (*FLAGS, "pose"):
            counts["lost"] += 1
            continue
        counts["texts"] += not isinstance(value, str)
        parent = SubElement(element, "attributes") if parent is None else parent
        entry = SubElement(parent, "attribute")
        SubElement(entry, "name").text = key
        SubElement(entry, "value").text = text
    losses.add(counts["texts"], "attribute is", "attributes are", "not a text: Pascal VOC holds the text of its JSON")
    losses.add(counts["lost"], "attribute is", "attributes are", "nothing that XML keeps: left out")


def _kept(text: str) -> bool:
    """Whether a reader gets a text back as it is."""
    return bool(text) and text == text.strip() and "\r" not in text and not _NOT_XML.search(text)
