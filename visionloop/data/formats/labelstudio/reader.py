"""Reads Label Studio's JSON, a few thousand tasks at a time, into the canonical annotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import PEOPLE, Annotations, Whole
from visionloop.data.formats.keys import Keys, counted, extension, file_name, split_of_file, split_of_folders
from visionloop.data.formats.labelstudio import config, is_label_studio
from visionloop.data.formats.labelstudio.document import REMEDY, Region, Task, tasks
from visionloop.data.formats.labelstudio.images import Images
from visionloop.data.formats.labelstudio.regions import shapes
from visionloop.data.formats.listing import IMAGES
from visionloop.data.formats.nesting import DEEPEST, depth
from visionloop.data.formats.outline import outline
from visionloop.data.formats.rows import Rows, free_values, only_of, with_sizes
from visionloop.data.formats.shapes import Drawn, Kind, choose_task, of_task
from visionloop.data.formats.source import Source
from visionloop.data.formats.xml_reader import LARGEST
from visionloop.data.sentences import printable, shown


def read_label_studio(source: Source) -> Annotations:
    """Reads an export; see ``visionloop.data.formats.labelstudio.read``."""
    keys = Keys.of(source)
    files = keys.exports("Label Studio", ".json", source, lambda start: is_label_studio(outline(start)))
    if not files:
        raise DatasetNotFound(f"{source.prefix.uri}: no JSON of Label Studio lies there; correct the URI, or {REMEDY}")
    export = _Export(source, keys, several=len(files) > 1)
    for file in files:
        export.add(file)
    return export.annotations(files[0] if len(files) == 1 else "the JSON files")


@dataclass(frozen=True)
class _Labelled:
    """A task that somebody labelled: its index, the key of its image, and what was labelled."""

    index: int
    key: str
    result: tuple[Region, ...]
    data: dict[str, Any]
    field: str


class _Export:
    """Collects the images of an export's files."""

    def __init__(self, source: Source, keys: Keys, several: bool) -> None:
        self.source, self.keys, self.several = source, keys, several
        self.images = Images(keys)
        self.configuration = _configuration(source, keys)
        self.rows, self.drawn = Rows(), Drawn()
        self.findings: list[Finding] = []
        self.unlabelled = self.several_labels = 0

    def add(self, file: str) -> None:
        """Reads a file."""
        path = self.source.local(file)
        for first, piece in tasks(path, file):
            labelled = [
                entry
                for index, task in enumerate(piece, start=first)
                if (entry := self._labelled(task, index, file)) is not None
            ]
            for entry, size in zip(labelled, self._sizes(labelled), strict=True):
                self._image(entry, size, file)
            self.source.alive()

    def _labelled(self, task: Task, index: int, file: str) -> _Labelled | None:
        annotation = task.last
        if annotation is None:
            self.unlabelled += 1
            return None
        field = self._field(task.data, f"{file}: [{index}].data")
        where = f"{file}: [{index}].data.{field}"
        value = task.data[field]
        if not isinstance(value, str):
            raise InvalidDataset(printable(f"{where}: expected the path of an image, got {shown(value)}; {REMEDY}"))
        return _Labelled(index, self.images.key(value, where), annotation.result or (), task.data, field)

    def _field(self, data: dict[str, Any], where: str) -> str:
        """The field of a task that names its image: as the configuration says, ``image``, or the only one that can."""
        stated = self.configuration.field if self.configuration else None
        if stated is not None and stated in data:
            return stated
        if "image" in data:
            return "image"
        fields = [name for name, value in data.items() if isinstance(value, str) and extension(value) in IMAGES]
        if len(fields) != 1:
            raise InvalidDataset(
                f"{where}.{stated or 'image'} is missing; put config.xml beside the export, or {REMEDY}"
            )
        return fields[0]

    def _sizes(self, labelled: list[_Labelled]) -> list[tuple[int | None, int | None]]:
        """Width and height of each image: as its regions state them, else of the picture."""
        sizes: list[tuple[int | None, int | None]] = []
        for entry in labelled:
            regions = (region for region in entry.result if region.original_width and region.original_height)
            region = next(regions, None)
            stated = (_side(region.original_width), _side(region.original_height)) if region else (None, None)
            sizes.append(stated if all(stated) else (None, None))
        rows = [
            row
            for row, (size, entry) in enumerate(zip(sizes, labelled, strict=True))
            if None in size and entry.key in self.keys.images
        ]
        if rows:
            widths, heights = self.source.sizes(pa.array([labelled[row].key for row in rows], pa.string()))
            for row, width, height in zip(rows, widths.tolist(), heights.tolist(), strict=True):
                sizes[row] = (width or None, height or None)
        return sizes

    def _image(self, entry: _Labelled, size: tuple[int | None, int | None], file: str) -> None:
        where = f"{file}: [{entry.index}]"
        free = {name: value for name, value in entry.data.items() if name != entry.field and name not in PEOPLE}
        image = self.rows.image(
            entry.key,
            where,
            entry.index,
            size=size,
            split=split_of_file(file) or split_of_folders(entry.key),
            file=file if self.several else None,
            group=self._group(entry.data, where),
            metadata=free_values(free) if depth(free) <= DEEPEST else None,
        )
        self._check_rotation(entry, where)
        width, height = size
        sides = (float(width), float(height)) if width and height else None
        for shape in shapes(entry.result, sides, where, self.drawn):
            self.several_labels += len(shape.labels) > 1 and shape.kind != Kind.LABEL
            if shape.problem:
                at = f"[{entry.index}].result[{shape.position}]"
                self.drawn.wrong_mask(file, file_name(entry.key), at, shape.problem)
            for label in shape.labels:
                self.rows.object(
                    image,
                    shape.position,
                    label,
                    f"{where}.result[{shape.position}]",
                    kind=shape.kind,
                    box=shape.box,
                    polygons=[shape.polygon] if shape.polygon else None,
                    mask=shape.mask,
                    attributes=shape.attributes,
                )

    def _check_rotation(self, entry: _Labelled, where: str) -> None:
        """An image that was turned in the tool: its coordinates may be those of the turned one."""
        if any((region.image_rotation or 0) % 360 for region in entry.result):
            name = entry.key.removeprefix("images/")
            sentence = f"{where}: {name} was turned while it was labelled; turn the picture itself, and label it again."
            self.findings.append(Finding("error", "orientation", name, f"[{entry.index}]", printable(sentence)))

    def _group(self, data: dict[str, Any], where: str) -> str | None:
        if self.source.group is None or (value := data.get(self.source.group)) in (None, ""):
            return None
        if isinstance(value, list | dict):
            raise InvalidConfig(f"{where}: {self.source.grouping} is a list or an object; name another field.")
        return str(value)

    def annotations(self, file: str) -> Annotations:
        """All that was read, for one task."""
        if not len(self.rows):
            raise InvalidDataset(f"{file}: no task is labelled; label at least one, and {REMEDY}")
        classes, images, objects, kinds = self.rows.number(sorted(self.rows.class_names))
        if self.source.group is not None and images["group"].null_count == len(images):
            raise InvalidConfig(f"{file}: {self.source.grouping} is a field of no task; name one of their data.")
        task, notices = choose_task(self.source.task, kinds, file)
        return self._of_task(file, task, notices, classes, images, objects, kinds)

    def _of_task(
        self,
        file: str,
        task: str,
        notices: list[str],
        classes: tuple[Class, ...],
        images: pa.Table,
        objects: pa.Table,
        kinds: Whole,
    ) -> Annotations:
        """The objects of a task, with the classes that its controls define or its objects have."""
        objects, made = of_task(objects, kinds, task)
        stated: tuple[str, ...] = ()
        if self.configuration:
            stated = self.configuration.choices if task == "classification" else self.configuration.labels
        classes, objects, unlisted = only_of(classes, objects, stated)
        if not classes:
            raise InvalidDataset(
                f"{file}: nothing is labelled, so there is no class; label at least one image, and {REMEDY}"
            )
        if self.configuration and unlisted:
            words = counted(len(unlisted), "label", "labels")
            notices = [
                *notices,
                printable(f"{words} ({shown(unlisted[0])}) not listed in {config.FILE}: behind the others, sorted."),
            ]
        return Annotations(
            format="labelstudio",
            task=task,
            file=file,
            classes=classes,
            images=with_sizes(images, self.source, self.keys.images),
            objects=objects,
            image_field="[{image}]",
            object_field="[{image}].result[{object}]",
            findings=(*self.findings, *self.drawn.findings(task)),
            notices=(*notices, *made, *self.drawn.notices(task), *self._notices(), *self.keys.notices()),
            metadata={"dataset_id": None, "dataset_name": None},
        )

    def _notices(self) -> Iterator[str]:
        if self.unlabelled:
            yield f"{counted(self.unlabelled, 'task has', 'tasks have')} no annotation that counts: passed over."
        if self.several_labels:
            yield f"{counted(self.several_labels, 'region has', 'regions have')} several labels: an object of each."


def _configuration(source: Source, keys: Keys) -> config.Configuration | None:
    if config.FILE not in keys.all:
        return None
    if len(start := source.prefix.read_start(config.FILE, LARGEST + 1)) > LARGEST:
        raise InvalidDataset(f"{config.FILE}: larger than a labelling configuration is; {REMEDY}")
    return config.parse(start)


def _side(side: float | None) -> int | None:
    """A side in whole pixels; None for what no picture has."""
    return int(side) if side and 0 < side < 2**31 and side == int(side) else None
