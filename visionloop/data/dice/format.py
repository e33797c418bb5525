"""The DICE 1.x annotation file: which fields it has, and the sentences about a wrong one.

A file names its classes and its images, each image with its annotations nested in it. Boxes are ``[x, y, width, height]``
in absolute pixels from the top left corner; polygons, run-length masks and keypoints follow COCO
(https://cocodataset.org/#format-data). Who labelled an image, and when, is never decoded.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class, wrong_class_name
from visionloop.data.dice.tasks import canonical_task
from visionloop.data.formats.json_errors import REMEDY
from visionloop.data.sentences import shown

Id = int | str | None
ClassId = Annotated[int, Meta(ge=-(2**31) + 1, lt=2**31)]
Pixels = Annotated[int, Meta(ge=1, lt=2**31)]


class RunLength(Struct, frozen=True, omit_defaults=True, gc=False):
    """A COCO run-length mask: ``size`` is [height, width], ``counts`` the runs or their compressed text."""

    size: tuple[int, int]
    counts: tuple[int, ...] | str


class Annotation(Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """One labelled object, or for classification one label of an image.

    Attributes:
        id: The labelling tool's id, not dense.
        image_id: The id of the image that it is nested in, where given.
        class_id: Id of its class.
        class_name: Name of its class, which must agree with the id.
        bbox: x, y, width, height in pixels from the top left corner.
        bbox_format: Always ``xywh`` where given.
        area: Area in square pixels.
        iscrowd: 1 for a region with many objects.
        attributes: Free values.
        segmentation: Polygons (each x1, y1, x2, y2 … in pixels) or a run-length mask.
        keypoints: x, y, visibility (0 not labelled, 1 hidden, 2 visible) for each keypoint, flat.
    """

    class_id: ClassId
    id: Id = None
    image_id: Id = None
    class_name: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    bbox_format: Literal["xywh", None] = None
    area: float | None = None
    iscrowd: Literal[0, 1, None] = None
    attributes: dict[str, Any] | None = None
    segmentation: tuple[tuple[float, ...], ...] | RunLength | None = None
    keypoints: tuple[float, ...] | None = None


class Image(Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """One image: its key below ``images/``, its size in pixels, its split where given, and its annotations."""

    file_name: str
    width: Pixels
    height: Pixels
    id: Id = None
    depth: int | None = None
    split: Literal["train", "val", "test", "valid", "validation", "", None] = None
    annotations: tuple[Annotation, ...] = ()


class Statistics(Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """The counts that the labelling tool wrote; compared with the data, never used."""

    total_images: int | None = None
    total_annotations: int | None = None
    avg_annotations_per_image: float | None = None
    class_distribution: dict[str, int] | None = None
    split_distribution: dict[str, int] | None = None


class File(Struct, omit_defaults=True, kw_only=True):
    """The JSON document; fields that are not named here are ignored."""

    format_version: str
    classes: tuple[Class, ...]
    images: tuple[Image, ...]
    task_type: str | None = None
    dataset_id: str | int | None = None
    dataset_name: str | None = None
    statistics: Statistics | None = None


def refuse_other_format(data: bytes, file: str) -> None:
    """Raises InvalidDataset if a file that is not DICE is of another format, whatever its name says."""
    from visionloop.data.formats import named_file
    from visionloop.data.formats.listing import END_BYTES
    from visionloop.data.formats.outline import Outline, outline

    try:
        keys = frozenset(msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
        seen = Outline(keys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        seen = outline(data[:END_BYTES])
    if name := named_file(seen):
        raise other_format(file, name)


def other_format(file: str, name: str) -> InvalidDataset:
    """The error for a file of another format under DICE's name."""
    from visionloop.data.formats import FORMATS

    title = FORMATS[name].title
    return InvalidDataset(
        f"{file}: this is the file of {title} under DICE's name; name its format ({name}), or give it its own name."
    )


def checked_task(task_type: str | None, file: str, asked: str | None) -> str:
    """The file's task, which must be the one asked for."""
    if not task_type:
        if asked is None:
            raise InvalidDataset(f"{file}: task_type is missing; choose the task with --task, or export again.")
        return asked
    task = canonical_task(task_type)
    if task is None:
        raise InvalidDataset(f"{file}: task_type: {shown(task_type)} is not a task that DICE knows; {REMEDY}")
    if asked is not None and task != asked:
        raise InvalidDataset(
            f"{file}: task_type: the file says {shown(task_type)}, but {asked} was asked for; "
            f"choose --task {task}, or export the {asked} annotations."
        )
    return task


def checked_classes(classes: tuple[Class, ...], file: str) -> tuple[Class, ...]:
    """The classes, after checking that each has a name and occurs once."""
    if not classes:
        raise InvalidDataset(f"{file}: classes is empty; define at least one class and export again.")
    ids: dict[int, int] = {}
    names: dict[str, int] = {}
    for index, class_ in enumerate(classes):
        if reason := wrong_class_name(class_.name):
            raise InvalidDataset(f"{file}: classes[{index}].name: {reason}; {REMEDY}")
        first = ids.setdefault(class_.id, index)
        if first != index:
            raise InvalidDataset(
                f"{file}: classes[{index}].id: {class_.id} is already the id of classes[{first}]; {REMEDY}"
            )
        first = names.setdefault(class_.name, index)
        if first != index:
            raise InvalidDataset(
                f"{file}: classes[{index}].name: {shown(class_.name)} is already the name of classes[{first}]; {REMEDY}"
            )
    return classes
