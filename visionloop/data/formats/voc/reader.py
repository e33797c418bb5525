"""Reads the XML files of a Pascal VOC dataset, several at once, into the canonical annotations."""

from __future__ import annotations

from collections.abc import Iterator

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset, NotFound
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.keys import Keys, counted, extension
from visionloop.data.formats.rows import Rows, free_values, with_sizes
from visionloop.data.formats.source import Source
from visionloop.data.formats.voc.document import Document, parse
from visionloop.data.formats.voc.images import image_of
from visionloop.data.formats.voc.lists import Lists
from visionloop.data.formats.xml_reader import LARGEST

#: What stands for all files in sentences; each image names its own.
FILE = "the XML files"

#: How many files are on their way at once.
_AT_ONCE = 5_000

#: Folders of masks, which are not read.
_MASKS = ("SegmentationClass", "SegmentationObject")

#: The root's texts that say where the image lay, and are not kept.
_PATHS = ("filename", "path", "folder")


def read_voc(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.voc.read``."""
    if source.task not in (None, "detection"):
        raise InvalidConfig(f"--task {source.task}: Pascal VOC is read for detection; choose --task detection.")
    keys = Keys.of(source)
    files = sorted(key for key in keys.all if extension(key) == ".xml")
    lists = Lists.read(source, keys)
    rows = Rows()
    used: set[str] = set()
    for file, document in _documents(source, files):
        key = image_of(file, document.file_name, keys)
        used.add(key)
        image = rows.image(
            key,
            file,
            0,
            size=document.size,
            split=lists.split(file),
            file=file,
            group=None if source.group is None else document.fields.get(source.group),
            metadata=free_values({name: text for name, text in document.fields.items() if name not in _PATHS}),
        )
        for position, entry in enumerate(document.objects):
            rows.object(
                image,
                position,
                entry.name,
                f"{file}: object[{position}].name",
                box=entry.box,
                attributes=entry.attributes,
            )
        source.alive()
    if not len(rows):
        raise DatasetNotFound(
            f"{source.prefix.uri}: no XML file lies there; correct the URI, or export the dataset again."
        )
    if not rows.class_names:
        raise InvalidDataset(
            f"{FILE}: no object is labelled, so there is no class; label at least one and export again."
        )
    classes, images, objects, _ = rows.number(sorted(rows.class_names))
    if source.group is not None and images["group"].null_count == len(images):
        raise InvalidConfig(f"{FILE}: {source.grouping} is a field of no file; name one that the files have.")
    return Annotations(
        format="voc",
        task="detection",
        file=FILE,
        classes=classes,
        images=with_sizes(images, source, keys.images),
        objects=objects,
        image_field="annotation",
        object_field="object[{object}]",
        notices=(*keys.notices(), *lists.notices(), *_passed_over(keys, used)),
        metadata={"dataset_id": None, "dataset_name": None},
    )


def _documents(source: Source, files: list[str]) -> Iterator[tuple[str, Document]]:
    """Each file with what it says."""
    read = _Read(source)
    for start in range(0, len(files), _AT_ONCE):
        batch = files[start : start + _AT_ONCE]
        yield from zip(batch, source.prefix.map(read, batch), strict=True)


def _passed_over(keys: Keys, used: set[str]) -> Iterator[str]:
    """The images without an XML file, and the masks."""
    masks = sum(any(folder in key.split("/") for folder in _MASKS) for key in keys.images)
    others = [key for key in keys.images if key not in used and not any(folder in key.split("/") for folder in _MASKS)]
    if masks:
        yield f"{counted(masks, 'mask', 'masks')} of {' and '.join(_MASKS)}: passed over; boxes alone are read of Pascal VOC."
    if others:
        yield (
            f"{counted(len(others), 'image', 'images')} without an XML file ({others[0]}): passed over; an image without "
            "objects has an XML file too."
        )


class _Read:
    """Reads one XML file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        listed = source.objects()
        self.large = {
            key: size
            for key, size in zip(listed["key"].to_pylist(), listed["size"].to_pylist(), strict=True)
            if size > LARGEST
        }

    def __call__(self, key: str) -> Document:
        if size := self.large.get(key):
            raise InvalidDataset(f"{key}: {size:,} bytes are more than an XML file of one image has; export it again.")
        try:
            return parse(self.source.read(key), key)
        except NotFound:
            raise DatasetNotFound(f"{key}: the file is gone; export the dataset again.") from None
