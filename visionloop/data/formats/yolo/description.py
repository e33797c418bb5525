"""The data.yaml of a YOLO dataset: its classes, keypoints, and the places of its splits. Nothing in it is ever run or fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidDataset
from visionloop.data import yaml_texts
from visionloop.data.annotations.classes import Class, wrong_class_name
from visionloop.data.formats.licences import stated
from visionloop.data.sentences import printable, shown

#: The largest file, in bytes.
LARGEST = 16 * 2**20

#: The keys that name places, by split.
_PLACES = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}

#: How "nothing" is written in YAML.
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})

_REMEDY = "correct the file."


@dataclass(frozen=True)
class Description:
    """What a data.yaml says.

    Attributes:
        file: Its key.
        classes: In the order of their numbers.
        path: The folder from which the places are counted, as it is written; empty for the file's own.
        places: For each split that is named, its folders, files and patterns, as they are written.
        keypoint_shape: How many keypoints an object has, and how many values each; None without.
        licences: Those that it states: under ``license``, and as Roboflow writes it.
    """

    file: str
    classes: tuple[Class, ...]
    path: str
    places: dict[str, tuple[str, ...]]
    keypoint_shape: tuple[int, int] | None = None
    licences: tuple[str, ...] = ()


def parse(data: bytes, file: str) -> Description:
    """Reads a data.yaml.

    Raises:
        InvalidDataset: If it is not such a file, or names a thing twice; the sentence says which key.
    """
    content = _loaded(data, file)
    shape = _shape(content.get("kpt_shape"), file)
    names = _names(content, file)
    keypoints = _keypoint_names(content.get("kpt_names"), shape, len(names), file) if shape else {}
    pairs = _flip_pairs(content.get("flip_idx"), shape, file) if shape else None
    classes = tuple(
        Class(id=number, name=name, keypoints=keypoints.get(index), flip_pairs=pairs)
        for index, (number, name) in enumerate(sorted(names.items()))
    )
    places = {}
    for split, keys in _PLACES.items():
        values = [content[key] for key in keys if not _is_nothing(content.get(key))]
        if len(values) > 1:
            raise InvalidDataset(f"{file}: val and validation are both written; leave out one of them.")
        if values:
            places[split] = _texts(values[0], split, file)
    if "train" not in places and "val" not in places:
        raise InvalidDataset(f"{file}: train and val are missing; write where the images of each lie.")
    path = content.get("path")
    if path is not None and not isinstance(path, str):
        raise InvalidDataset(f"{file}: path is not a text; {_REMEDY}")
    return Description(file, classes, "" if _is_nothing(path) else str(path), places, shape, _licences(content))


def _licences(content: dict[str, Any]) -> tuple[str, ...]:
    roboflow = content.get("roboflow")
    named = [content.get("license"), roboflow.get("license") if isinstance(roboflow, dict) else None]
    return stated((name, None) for name in named if not _is_nothing(name))


def _loaded(data: bytes, file: str) -> dict[str, Any]:
    if len(data) > LARGEST:
        raise InvalidDataset(f"{file}: {len(data):,} bytes are more than {LARGEST:,}; {_REMEDY}")
    try:
        text = decoded(data)
        content = yaml_texts.load(text)
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{file}: the file is not UTF-8 text (byte {error.start}); write it again.") from None
    except ValueError as error:
        raise InvalidDataset(printable(f"{file}: {error}; {_REMEDY}")) from None
    if not isinstance(content, dict):
        raise InvalidDataset(f"{file}: the file holds no keys such as train and names; {_REMEDY}")
    return content


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value in _NOTHING)


def _names(content: dict[str, Any], file: str) -> dict[int, str]:
    """The name of each class by its number."""
    value, count = content.get("names"), content.get("nc")
    number = None if _is_nothing(count) else _whole(count, "nc", file)
    if _is_nothing(value):
        if number is None:
            raise InvalidDataset(f"{file}: names is missing; write the class names in the order of their numbers.")
        if number > 2**20:
            raise InvalidDataset(f"{file}: nc: {number:,} is more than the number of classes can be; {_REMEDY}")
        return {index: f"class_{index}" for index in range(number)}
    if isinstance(value, dict):
        names = {_whole(key, f"names.{key}", file): name for key, name in value.items()}
        if len(names) < len(value):
            raise InvalidDataset(f"{file}: names: one number has two names; {_REMEDY}")
    elif isinstance(value, list):
        names = dict(enumerate(value))
    else:
        raise InvalidDataset(f"{file}: names: {shown(value)} is neither a list nor a mapping; {_REMEDY}")
    if not names:
        raise InvalidDataset(f"{file}: names is empty; write the class names in the order of their numbers.")
    return checked_names(names, number, file)


def checked_names(names: dict[int, Any], number: int | None, file: str) -> dict[int, str]:
    """Class names that are texts, each one once. Raises InvalidDataset."""
    numbers: dict[str, int] = {}
    for index, name in names.items():
        if not isinstance(name, str):
            raise InvalidDataset(f"{file}: names[{index}]: {shown(name)} is not a text; {_REMEDY}")
        if reason := wrong_class_name(name):
            raise InvalidDataset(f"{file}: names[{index}]: {reason}; {_REMEDY}")
        if (first := numbers.setdefault(name, index)) != index:
            raise InvalidDataset(
                f"{file}: names[{index}]: {shown(name)} is already names[{first}]; give each class its own name."
            )
    if number is not None and number != len(names):
        raise InvalidDataset(f"{file}: nc says {number}, but names has {len(names)}; correct one of them.")
    return names


def _whole(value: object, field: str, file: str) -> int:
    """A whole number from 0, also one written as 3.0."""
    if not isinstance(value, str) or not re.fullmatch(r"\+?[0-9]{1,9}(\.0*)?", value, re.ASCII):
        raise InvalidDataset(f"{file}: {field}: {shown(value)} is not a whole number from 0; {_REMEDY}")
    return int(value.partition(".")[0])


def _texts(value: object, field: str, file: str) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip():
            raise InvalidDataset(f"{file}: {field}: {shown(entry)} is not a path; {_REMEDY}")
    return tuple(entries)


def _shape(value: object, file: str) -> tuple[int, int] | None:
    if _is_nothing(value):
        return None
    numbers = [_whole(entry, "kpt_shape", file) for entry in value] if isinstance(value, list) else []
    if len(numbers) != 2 or not 0 < numbers[0] <= 10_000 or numbers[1] not in (2, 3):
        raise InvalidDataset(
            f"{file}: kpt_shape: {shown(value)} is not [number of keypoints, 2 or 3 values each]; {_REMEDY}"
        )
    return numbers[0], numbers[1]


def _keypoint_names(value: object, shape: tuple[int, int], classes: int, file: str) -> dict[int, tuple[str, ...]]:
    """The names of each class's keypoints by the class's index; ``0``, ``1`` … where none are written."""
    named: dict[int, list[Any]] = {}
    if isinstance(value, dict):
        named = {_whole(key, f"kpt_names.{key}", file): names for key, names in value.items()}
    elif isinstance(value, list):
        named = dict.fromkeys(range(classes), value)
    result = dict.fromkeys(range(classes), tuple(map(str, range(shape[0]))))
    for index, names in named.items():
        if not isinstance(names, list) or len(names) != shape[0] or not all(isinstance(name, str) for name in names):
            raise InvalidDataset(
                f"{file}: kpt_names: {shown(names)} is not a list of {shape[0]} names, as kpt_shape says; {_REMEDY}"
            )
        result[index] = tuple(names)
    return result


def _flip_pairs(value: object, shape: tuple[int, int], file: str) -> tuple[tuple[int, int], ...] | None:
    """The pairs of keypoints that a mirror exchanges."""
    if _is_nothing(value) or value == []:
        return None
    numbers = [_whole(entry, "flip_idx", file) for entry in value] if isinstance(value, list) else []
    if sorted(numbers) != list(range(shape[0])) or any(numbers[other] != index for index, other in enumerate(numbers)):
        raise InvalidDataset(
            f"{file}: flip_idx: {shown(value)} does not name each of the {shape[0]} keypoints' counterparts; {_REMEDY}"
        )
    return tuple((index, other) for index, other in enumerate(numbers) if index < other) or None
