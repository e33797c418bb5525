"""Reads a dataset of COCO files into the canonical annotations: the images of each file, then its annotations, in pieces."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.outlined import boxes_alone
from visionloop.data.annotations.tables import IMAGES, OBJECTS, Annotations, column, images_table
from visionloop.data.formats.coco.classes import Classes
from visionloop.data.formats.coco.columns import Annotated, Ids, sizes
from visionloop.data.formats.coco.document import REMEDY, Document, Label, Picture, split
from visionloop.data.formats.coco.files import coco_files, folder_of_images, for_task
from visionloop.data.formats.document import in_pieces, mapped
from visionloop.data.formats.free import Free
from visionloop.data.formats.names import check_names, repeated
from visionloop.data.formats.source import Source
from visionloop.data.formats.splits import stated_split
from visionloop.data.sentences import printable, shown

_TASKS = ("detection", "segmentation", "pose")


@dataclass
class _Read:
    """What was read of all files so far."""

    images: list[pa.Table] = field(default_factory=list)
    objects: list[pa.Table] = field(default_factory=list)
    image_count: int = 0
    grouped: int = 0
    findings: list[Finding] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    licences: list[str] = field(default_factory=list)


def read_coco(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.coco.read``."""
    if source.task not in (None, *_TASKS):
        raise InvalidConfig(f"--task {source.task}: COCO is read for {', '.join(_TASKS)}; choose one of these.")
    files = for_task(source, coco_files(source))
    read, classes = _Read(notices=files.notices), Classes()
    used = [key for key in files.keys if _read_file(source, key, len(files.keys) > 1, read, classes)]
    if not used:
        raise InvalidDataset(f"{read.notices[-1].rstrip('.')}, and no other file is of COCO; {REMEDY}")
    file = ", ".join(used) if len(used) <= 3 else f"{len(used)} COCO files"
    if not read.image_count:
        raise InvalidDataset(f"{file}: images is empty; label at least one image and export again.")
    if source.group is not None and not read.grouped:
        raise InvalidConfig(f"{file}: {source.grouping} is a field of no image; name one that the images have.")
    images = pa.concat_tables(read.images).unify_dictionaries().combine_chunks()
    _check_distinct(images, file)
    objects = pa.concat_tables(read.objects)
    task = _task(source, objects, file, read.notices)
    read.notices += boxes_alone(objects, task, file)
    return Annotations(
        format="coco",
        task=task,
        file=file,
        classes=classes.checked(file),
        images=_with_sizes(images, source, read.notices),
        objects=_by_image(objects),
        class_field="category_id",
        findings=tuple(read.findings),
        notices=(*read.notices, *classes.notices),
        metadata={"dataset_id": None, "dataset_name": None},
        licences=tuple(dict.fromkeys(read.licences)),
    )


def _task(source: Source, objects: pa.Table, file: str, notices: list[str]) -> str:
    """The task that is read; of a file that serves several it is detection, with a notice."""
    outlined = len(objects) - min(objects["polygons"].null_count, objects["mask"].null_count)
    if source.task == "segmentation" and not outlined:
        raise InvalidConfig(
            f"{file}: no annotation has a segmentation; choose --task detection, or export the outlines."
        )
    if source.task is not None:
        return source.task
    others = ["segmentation"] if outlined else []
    others += ["pose"] if objects["keypoints"].null_count < len(objects) else []
    if others:
        options = " or ".join(f"--task {name}" for name in others)
        notices.append(
            f"{file}: read for detection, though the annotations serve {' and '.join(others)} too ({options})."
        )
    return "detection"


def _read_file(source: Source, file: str, several: bool, read: _Read, classes: Classes) -> bool:
    """Reads a file; False, with a notice, for one that lacks a list of COCO's."""
    with mapped(source.local(file)) as data:
        document = split(data, file)
        if isinstance(document, str):
            read.notices.append(f"{file}: passed over, it has no {document}.")
            return False
        renumbered = classes.add(document)
        read.licences += document.licences
        images, ids = _images(source, document, data, several, read)
        objects = _objects(source, document, data, images, ids, read)
    images_before = read.image_count
    read.images.append(images)
    read.image_count += len(images)
    rows = column(objects, "image") + images_before
    objects = objects.set_column(0, OBJECTS.field(0), pa.array(rows.astype(np.int32)))
    read.objects.append(classes.number(objects, renumbered, file))
    return True


def _images(
    source: Source, document: Document, data: bytes | mmap.mmap, several: bool, read: _Read
) -> tuple[pa.Table, pa.ChunkedArray]:
    """The images of a file, and their ids."""
    file = document.file
    stated = stated_split(file)
    value, words = stated if stated is not None else (None, ())
    free = Free(file, source.group, source.option)
    folder: str | None = None
    tables, ids = [images_table(file_name=[])], Ids()
    for piece in in_pieces(document.images, Picture, "images", file, data):
        pictures = piece.elements
        written = pa.array([picture.file_name for picture in pictures], pa.string())
        names = pc.replace_substring_regex(written, r"^(\./)+", "")
        check_names(names, file, piece.first, REMEDY)
        if folder is None:
            folder = folder_of_images(source.objects()["key"], file, words, names[:100].to_pylist())
        keys = pc.binary_join_element_wise(folder, names, "")
        width, height = sizes(pictures)
        tables.append(
            images_table(
                file_name=pc.replace_substring_regex(keys, "^images/", ""),
                key=keys,
                width=width,
                height=height,
                split=pa.repeat(pa.scalar(value, pa.string()), len(pictures)),
                file=pa.repeat(pa.scalar(file), len(pictures)).dictionary_encode() if several else None,
                position=np.arange(piece.first, piece.first + len(pictures), dtype=np.int32),
                group=free.groups(piece),
                metadata=free.metadata(piece),
            )
        )
        ids.add([picture.id for picture in pictures])
        source.alive()
    read.grouped += free.grouped
    images = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    identities = ids.whole()
    _check_ids(identities, images, file)
    return images, identities


def _check_ids(ids: pa.ChunkedArray, images: pa.Table, file: str) -> None:
    """Raises InvalidDataset if two images of a file have one id."""
    if pair := repeated(ids):
        first, index = pair
        names = [images["file_name"][row].as_py() for row in pair]
        raise InvalidDataset(
            f"{file}: images[{index}].id: {shown(ids[index].as_py())} of {shown(names[1])} is already the id of "
            f"images[{first}], {shown(names[0])}; give each image its own id, and its annotations with it."
        )


def _check_distinct(images: pa.Table, file: str) -> None:
    """Raises InvalidDataset if two images have one file name."""
    if pair := repeated(images["file_name"]):
        entries = images.take(pa.array(pair)).to_pylist()
        places = [_place(entry) for entry in entries]
        name = entries[0]["file_name"]
        raise InvalidDataset(
            printable(
                f"{file}: {name}: the image is named twice, by {places[0]} and by {places[1]}; leave it in one of them."
            )
        )


def _place(image: dict[str, Any]) -> str:
    inside = f" of {image['file']}" if image["file"] else ""
    return f"images[{image['position']}]{inside} ({image['key']})"


def _objects(
    source: Source, document: Document, data: bytes | mmap.mmap, images: pa.Table, ids: pa.ChunkedArray, read: _Read
) -> pa.Table:
    """The objects of a file; ``image`` is the row among its images."""
    file = document.file
    annotated = Annotated(file)
    for piece in in_pieces(document.annotations, Label, "annotations", file, data):
        annotated.add(piece)
        source.alive()
    objects, identities = annotated.table(), annotated.ids.whole()
    if ids.type != identities.type:
        ids, identities = ids.cast(pa.string()), identities.cast(pa.string())
    rows = pc.index_in(identities, value_set=ids)
    if rows.null_count:
        read.findings.append(_without_image(objects, identities, rows, file))
        of_image = rows.is_valid()
        objects, rows = objects.filter(of_image), rows.filter(of_image)
    return objects.set_column(0, OBJECTS.field(0), rows)


def _without_image(objects: pa.Table, ids: pa.ChunkedArray, rows: pa.ChunkedArray, file: str) -> Finding:
    """The finding of annotations whose image is not in their file: they are counted, and the first one is named."""
    row = pc.indices_nonzero(rows.is_null())[0].as_py()
    position = objects["position"][row].as_py()
    number = rows.null_count
    others = f" ({number - 1:,} more annotations have such an id)" if number > 1 else ""
    text = f"{file}: annotations[{position}].image_id {shown(ids[row].as_py())} is the id of no image{others}"
    sentence = printable(f"{text}; add the image to the file, or remove the annotation.")
    return Finding("error", "image_id", None, f"annotations[{position}].image_id", sentence)


def _by_image(objects: pa.Table) -> pa.Table:
    """Objects in the order of their images, those of one in the order of their file."""
    image, position = column(objects, "image"), column(objects, "position")
    if ((image[1:] < image[:-1]) | ((image[1:] == image[:-1]) & (position[1:] < position[:-1]))).any():
        objects = objects.take(pa.array(np.lexsort((position, image))))
    return objects.combine_chunks()


def _with_sizes(images: pa.Table, source: Source, notices: list[str]) -> pa.Table:
    """The images with the sizes of those that state none, read from the pictures that exist."""
    unknown = pc.or_(images["width"].is_null(), images["height"].is_null())
    rows = pc.indices_nonzero(pc.and_(unknown, pc.is_in(images["key"], value_set=source.objects()["key"])))
    if not pc.any(unknown, min_count=0).as_py():
        return images
    number = pc.sum(unknown).as_py()
    notices.append(f"{number:,} images state no width and height: these are read from the pictures.")
    measured = source.sizes(images["key"].take(rows).combine_chunks()) if len(rows) else ((), ())
    for name, values in zip(("width", "height"), measured, strict=True):
        whole = np.where(np.asarray(unknown), 0, column(images, name))
        whole[np.asarray(rows)] = values
        at = IMAGES.get_field_index(name)
        images = images.set_column(at, IMAGES.field(at), pa.array(whole.astype(np.int32), mask=whole == 0))
    return images
