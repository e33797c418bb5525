"""Writes the JSON Schemas of docs/ from the types that read and write what they describe; tests/docs checks that they are current.

dice.schema.json is of a DICE file: what it can't say, such as names that occur once, is in dice.md. events.schema.json is of the
events of a training, predictions.schema.json of those of a prediction (events.md). Run ``.venv/bin/python docs/schema.py`` or ``make golden``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from visionloop.data.annotations.classes import LONGEST_CLASS_NAME
from visionloop.data.dice import format as dice
from visionloop.data.formats.names import LONGEST_FILE_NAME
from visionloop.training.events.payloads import TRAINING, About, CloudEvent, Family
from visionloop.training.events.predictions import PREDICTION

FOLDER = Path(__file__).parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"

#: What the types leave to the reader's own checks, by type and field.
CHECKED: dict[tuple[str, str], dict[str, Any]] = {
    ("File", "format_version"): {"pattern": r"^1(\.[0-9]+)*$"},
    ("File", "classes"): {"minItems": 1},
    ("File", "images"): {"minItems": 1},
    ("Class", "name"): {"minLength": 1, "maxLength": LONGEST_CLASS_NAME},
    ("Image", "file_name"): {"minLength": 1, "maxLength": LONGEST_FILE_NAME},
}

#: What is always so of an event, by field.
OF_EVENTS: dict[str, dict[str, Any]] = {
    "id": {"minLength": 1},
    "time": {"format": "date-time"},
}


def dice_schema() -> dict[str, Any]:
    """The schema of a DICE file, draft 2020-12."""
    parts = msgspec.json.schema(dice.File)["$defs"]
    for name, part in parts.items():
        _describe(part, f"DICE {name.lower()}" if name != "File" else "DICE 1.x annotation file")
        for field, value in part["properties"].items():
            value |= CHECKED.get((name, field), {})
    file = parts.pop("File")
    # These two are COCO's, which nests no annotations in its images.
    file["properties"] |= {"annotations": {"maxItems": 0}, "categories": False}
    return {"$schema": DRAFT, **file, "$defs": dict(sorted(parts.items()))}


def events_schema(family: Family, what: str) -> dict[str, Any]:
    """The schema of an event of a training or a prediction, draft 2020-12: ``$defs`` has each event by the last word of its type, and its data by the type's name."""
    _, parts = msgspec.json.schema_components([CloudEvent[data] for data in family.kinds.values()])  # type: ignore[valid-type]
    events = {}
    of_stage = {"source": {"pattern": f"^/runs/[^/]+/{family.stage}$"}}
    for kind, data in family.kinds.items():
        event = parts.pop(f"CloudEvent_{data.__name__}_")
        _describe(event, f"{family.prefix}{kind}")
        event["description"] = parts[data.__name__]["description"].split("\n")[0]
        for field, value in {**OF_EVENTS, **of_stage}.items():
            event["properties"][field] |= value
        event["properties"]["type"] |= {"const": f"{family.prefix}{kind}"}
        events[kind] = event
    for name, part in parts.items():
        _describe(part, name)
    one = [{"$ref": f"#/$defs/{kind}"} for kind in events]
    return {
        "$schema": DRAFT,
        "title": f"An event of a {what}",
        "description": "CloudEvents 1.0, structured. A receiver of bare data takes what stands under data.",
        "oneOf": one,
        "$defs": {**events, **dict(sorted(parts.items()))},
    }


#: Each schema by its file.
SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "dice.schema.json": dice_schema,
    "events.schema.json": partial(events_schema, TRAINING, "training"),
    "predictions.schema.json": partial(events_schema, PREDICTION, "prediction"),
}


def _describe(part: dict[str, Any], title: str) -> None:
    """Gives a part its title, and the descriptions of its type's docstring to it and to its fields."""
    text = inspect.cleandoc(part.get("description", ""))
    described = {**_fields(inspect.cleandoc(About.__doc__ or "")), **_fields(text)}
    part["title"] = title
    part["description"] = " ".join(text.partition("\n\nAttributes:")[0].split()).replace("``", "")
    for field, value in part["properties"].items():
        if field in described:
            value["description"] = " ".join(described[field].split()).replace("``", "")


def _fields(text: str) -> dict[str, str]:
    """What a docstring says of each field."""
    return dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))


def text(name: str) -> str:
    """A file's content."""
    return json.dumps(SCHEMAS[name](), ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Writes the files."""
    for name in SCHEMAS:
        (FOLDER / name).write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
