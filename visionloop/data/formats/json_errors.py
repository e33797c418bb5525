"""The sentences about a wrong JSON file: what is not JSON, and what a field must hold."""

from __future__ import annotations

import json
import math
import re

import msgspec

from visionloop.data.sentences import shown

#: The remedy at the end of each sentence about a wrong file.
REMEDY = "fix it in the labelling tool and export again."

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


def wrong_field(message: str, data: bytes) -> str:
    """A sentence from a msgspec validation message (``Expected `int`, got `str` - at `$.images[0].width```)."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", text)
    if missing:
        field = f"{path}.{missing[1]}" if path else missing[1]
        if field == "format_version":
            return "format_version is missing, so this is not a DICE file"
        return f"{field} is missing"
    if not path:
        return "the file holds no JSON object, so this is not a DICE file"
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
        return f"the file is not UTF-8 text (byte {wrong.start})"
    except json.JSONDecodeError as wrong:
        return f"the file is not JSON (line {wrong.lineno}, column {wrong.colno}: {wrong.msg})"
    except RecursionError:
        return "the JSON is nested too deeply"
    # Python's parser accepts what JSON forbids: numbers that are not finite, and lone surrogates.
    return _not_json(value, "") or f"the file is not JSON ({error})"


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
            return f"{path}: {value} is not a finite number"
        elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
            return f"{path}: the text is not valid Unicode"
    return None
