"""Reads CVAT's XML for images, an image at a time, into the canonical annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import msgspec

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.cvat import is_cvat
from visionloop.data.formats.cvat.labels import Labels
from visionloop.data.formats.cvat.shapes import shapes
from visionloop.data.formats.keys import Keys, counted, file_name, split_of_file, split_word
from visionloop.data.formats.names import checked
from visionloop.data.formats.rows import Rows, with_sizes
from visionloop.data.formats.shapes import Drawn, choose_task, flip_pairs, of_task
from visionloop.data.formats.source import Source
from visionloop.data.formats.xml_reader import REMEDY, blocks_of, children, pixels
from visionloop.data.sentences import printable, shown

#: The subset of images that were given none.
_NO_SUBSET = ("", "default")


def read_cvat(source: Source) -> Annotations:
    """Reads an export; see ``visionloop.data.formats.cvat.read``."""
    keys = Keys.of(source)
    files = keys.exports("CVAT", ".xml", source, is_cvat)
    if not files:
        raise DatasetNotFound(f"{source.prefix.uri}: no XML file of CVAT lies there; correct the URI, or {REMEDY}.")
    export = _Export(source, keys, several=len(files) > 1)
    for file in files:
        export.add(file)
    return export.annotations(files[0] if len(files) == 1 else "the XML files")


class _Export:
    """Collects the images of an export's files."""

    def __init__(self, source: Source, keys: Keys, several: bool) -> None:
        self.source, self.keys, self.several = source, keys, several
        self.rows, self.labels, self.drawn = Rows(), Labels(), Drawn()
        self.subsets: Counter[str] = Counter()
        self.grouped = 0

    def add(self, file: str) -> None:
        """Reads a file."""
        path = self.source.local(file)
        split, position = split_of_file(file), 0
        for element in children(blocks_of(path), file, "annotations"):
            if element.tag == "track":
                raise InvalidDataset(
                    f"{file}: it holds tracks of a video, and only images are read; export it as CVAT for images 1.1."
                )
            if element.tag == "meta":
                self.labels.add(element, file)
            elif element.tag == "image":
                self._image(element, file, split, position)
                position += 1
                self.source.alive()
            elif element.tag != "version":
                tag = shown(element.tag)
                self.drawn.not_read[f"element {tag} is", f"elements {tag} are"] += 1

    def _image(self, element: Element, file: str, split: str | None, position: int) -> None:
        where = f"{file}: image[{position}]"
        name = checked(element.get("name") or "", f"{where}.name")
        width, height = (pixels(element.get(side), f"{where}.{side}") for side in ("width", "height"))
        key = self._key(name, element.get("subset") or "")
        row = self.rows.image(
            key,
            where,
            position,
            size=(width, height),
            split=self._split(element.get("subset") or "", split),
            file=file if self.several else None,
            group=None if self.source.group is None else element.get(self.source.group),
        )
        for shape in shapes(element, (width, height), self.labels.keypoints, where, self.drawn):
            if shape.problem:
                self.drawn.wrong_mask(file, file_name(key), f"image[{position}][{shape.position}]", shape.problem)
            self.rows.object(
                row,
                shape.position,
                shape.label,
                f"{where}[{shape.position}].label",
                kind=shape.kind,
                box=shape.box,
                polygons=[shape.polygon] if shape.polygon else None,
                mask=shape.mask,
                keypoints=shape.keypoints,
                attributes=shape.attributes,
            )
        self.grouped += sum(child.get("group_id", "0") not in ("", "0") for child in element)

    def _key(self, name: str, subset: str) -> str:
        """Where an image lies: below images/ or the root, perhaps in its subset's folder."""
        folders = ("images/", "", f"images/{subset}/", f"{subset}/") if subset else ("images/", "")
        for folder in folders:
            if f"{folder}{name}" in self.keys.images:
                return f"{folder}{name}"
        for folder in folders:
            # A frame of a video has a name without extension.
            if stems := self.keys.by_stem.get(f"{folder}{name}"):
                return stems[0]
        return f"images/{name}"

    def _split(self, subset: str, split: str | None) -> str | None:
        """The split that a subset means, else the one of the file's name."""
        if subset.lower() in _NO_SUBSET:
            return split
        if (stated := split_word(subset)) is None:
            self.subsets[subset] += 1
        return stated

    def annotations(self, file: str) -> Annotations:
        """All that was read, for one task."""
        if not len(self.rows):
            raise InvalidDataset(f"{file}: there is no image; {REMEDY}.")
        names = [*self.labels.names]
        unlisted = sorted(set(self.rows.class_names) - set(names))
        names += unlisted
        if not names:
            raise InvalidDataset(f"{file}: there is no label; define at least one in CVAT, and {REMEDY}.")
        classes, images, objects, kinds = self.rows.number(names)
        if self.source.group is not None and images["group"].null_count == len(images):
            raise InvalidConfig(f"{file}: {self.source.grouping} is a field of no image; name one that they have.")
        task, notices = choose_task(self.source.task, kinds, file)
        objects, made = of_task(objects, kinds, task)
        return Annotations(
            format="cvat",
            task=task,
            file=file,
            classes=tuple(self._class(entry, task) for entry in classes),
            images=with_sizes(images, self.source, self.keys.images),
            objects=objects,
            image_field="image[{image}]",
            object_field="image[{image}][{object}]",
            findings=self.drawn.findings(task),
            notices=(*notices, *made, *self.drawn.notices(task), *self._notices(unlisted, task), *self.keys.notices()),
            metadata={"dataset_id": None, "dataset_name": None},
        )

    def _class(self, entry: Class, task: str) -> Class:
        entry = msgspec.structs.replace(entry, color=self.labels.colors.get(entry.name))
        keypoints = self.labels.keypoints.get(entry.name)
        if task != "pose" or keypoints is None:
            return entry
        return msgspec.structs.replace(entry, keypoints=tuple(keypoints), flip_pairs=flip_pairs(keypoints))

    def _notices(self, unlisted: list[str], task: str) -> Iterator[str]:
        if unlisted:
            yield printable(
                f"{counted(len(unlisted), 'label', 'labels')} ({shown(unlisted[0])}) not listed in meta: behind the others, sorted."
            )
        for subset, number in sorted(self.subsets.items()):
            yield printable(
                f"{counted(number, 'image is', 'images are')} of the subset {shown(subset)}: no split is stated."
            )
        if self.grouped:
            yield f"{counted(self.grouped, 'shape has', 'shapes have')} a group_id: each is an object by itself."
        if task == "pose":
            yield "CVAT's skeletons have no box: the one around the keypoints that are labelled is taken."
