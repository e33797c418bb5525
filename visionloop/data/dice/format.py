"""The DICE 1.x annotation file: which fields it has, and the sentences about a wrong one.

A file names its classes and its images, each image with its annotations nested in it. Boxes are ``[x, y, width, height]``
in absolute pixels from the top left corner; polygons, run-length masks and keypoints follow COCO
(https://cocodataset.org/#format-data). Who labelled an image, and when, is never decoded.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.dice.tasks import canonical_task

#: The remedy at the end of each sentence about a wrong file.
REMEDY = "fix it in the labelling tool and export again."

#: Longest key that S3 takes, in bytes of UTF-8.
LONGEST_FILE_NAME = 1024

#: Longest name of a class, in characters.
LONGEST_CLASS_NAME = 1000

#: Deepest nesting of the values in a file: of an annotation's attributes, and of metadata.json.
DEEPEST = 64

Id = int | str | None
ClassId = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
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


#: What a field must hold, for fields whose type alone would not tell the user.
_EXPECTED = {
    "bbox": "4 numbers [x, y, width, height]",
    "bbox_format": "xywh",
    "split": "train, val or test, or no split at all",
    "iscrowd": "0 or 1",
    "width": "a whole number of pixels above 0",
    "height": "a whole number of pixels above 0",
    "segmentation": "a list of polygons [x1, y1, x2, y2, …] or a run-length mask {size, counts}",
    "keypoints": "a flat list of numbers, x, y and visibility for each keypoint (in a class: the keypoints' names)",
    "attributes": "an object",
    "annotations": "a list of annotations",
    "class_id": "the whole number of a class",
    "category_id": "the whole number of a category",
}


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
        f"{file}: this is the file of {title} under DICE's name; name its format with --dataset-format {name}, or give "
        "it its own name."
    )


def checked_task(task_type: str | None, file: str, asked: str | None) -> str:
    """The file's task, which must be the one asked for."""
    if not task_type:
        if asked is None:
            raise InvalidDataset(f"{file}: task_type is missing; choose the task with --task, or export again.")
        return asked
    task = canonical_task(task_type)
    if task is None:
        raise InvalidDataset(f"{file}: task_type: {shown(task_type)} is no task that DICE knows; {REMEDY}")
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


def wrong_class_name(name: str) -> str | None:
    """Why a class can't have a name, which it says too; None if it can."""
    if not name.strip() or _CONTROL.search(name):
        return f"{shown(name)} is empty or holds a control character"
    if len(name) > LONGEST_CLASS_NAME:
        return f"{shown(name[:80])} has {len(name):,} characters, more than {LONGEST_CLASS_NAME:,}"
    return None


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def hostile(name: str) -> str | None:
    """Why a file name can't be an image's key below ``images/``, or None."""
    parts = name.split("/")
    if not name:
        return "is empty"
    if name.startswith("/"):
        return "is an absolute path"
    if "\\" in name:
        return "holds a backslash"
    if _CONTROL.search(name):
        return "holds a control character"
    if ".." in parts or "." in parts:
        return "holds a relative folder ('.' or '..')"
    if "" in parts:
        return "holds an empty folder or ends with a slash"
    if len(name.encode()) > LONGEST_FILE_NAME:
        return f"is longer than {LONGEST_FILE_NAME} bytes"
    return None


def depth(value: object) -> int:
    """How deep lists and objects are nested in a JSON value; 0 for a plain one."""
    level, deepest = [value], 0
    while level := [item for item in level if isinstance(item, list | dict)]:
        deepest += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deepest


def printable(text: str) -> str:
    """A text of the file for a sentence: characters that break a line or change the text direction are replaced."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "�" for character in text)


def shown(value: object) -> str:
    """A value of the file for a sentence: as JSON, printable, shortened."""
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:77]}…"


def wrong_field(message: str, data: bytes) -> str:
    """A sentence from a msgspec validation message (``Expected `int`, got `str` - at `$.images[0].width```)."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", text)
    if missing:
        field = f"{path}.{missing[1]}" if path else missing[1]
        if field == "format_version":
            return "format_version is missing, so this is no DICE file"
        return f"{field} is missing"
    if not path:
        return "the file holds no JSON object, so this is no DICE file"
    for ending in re.finditer(r"(\w+)((?:\[\d+\])*)$", path):
        if ending[1] in _EXPECTED:
            # The whole field is shown, not the element of it that msgspec stumbled over.
            path = path[: ending.end(1)] if ending[1] != "annotations" else path
            return f"{path}: expected {_EXPECTED[ending[1]]}{_got(path, data)}"
    return f"{path}: {text[:1].lower()}{text[1:].replace('`', '')}"


def _got(path: str, data: bytes) -> str:
    """``, got …`` with the value at a path like ``images[3].annotations[0].bbox``; empty if it can't be read."""
    try:
        value = msgspec.json.decode(data)
        for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            value = value[key] if key else value[int(index)]
        return f", got {shown(value)}"
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
        return ""


def wrong_json(error: Exception, data: bytes) -> str:
    """Why the bytes are not JSON, with line and column; slow, but the file is refused anyway."""
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as wrong:
        return f"the file is no UTF-8 text (byte {wrong.start})"
    except json.JSONDecodeError as wrong:
        return f"the file is no JSON (line {wrong.lineno}, column {wrong.colno}: {wrong.msg})"
    except RecursionError:
        return "the JSON is nested too deeply"
    # Python's parser accepts what JSON forbids: numbers that are not finite, and lone surrogates.
    return _not_json(value, "") or f"the file is no JSON ({error})"


def _not_json(value: object, path: str) -> str | None:
    """The first value that JSON can't hold, with its path, or None."""
    stack: list[tuple[object, str]] = [(value, path)]
    while stack:
        value, path = stack.pop()
        if isinstance(value, dict):
            stack.extend(reversed([(inner, f"{path}.{key}" if path else key) for key, inner in value.items()]))
        elif isinstance(value, list):
            stack.extend(reversed([(inner, f"{path}[{index}]") for index, inner in enumerate(value)]))
        elif isinstance(value, float) and not math.isfinite(value):
            return f"{path}: {value} is no finite number"
        elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
            return f"{path}: the text is not valid Unicode"
    return None
