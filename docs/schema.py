"""Writes dice.schema.json, the JSON Schema of a DICE file, from the types that read it; tests/docs checks that it is current.

Run ``.venv/bin/python docs/schema.py`` or ``make golden``. What a schema can't say, such as names that occur once, is in dice.md.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from visionloop.data.annotations.classes import LONGEST_CLASS_NAME
from visionloop.data.dice import format as dice
from visionloop.data.formats.names import LONGEST_FILE_NAME

FILE = Path(__file__).parent / "dice.schema.json"

#: What the types leave to the reader's own checks, by type and field.
CHECKED: dict[tuple[str, str], dict[str, Any]] = {
    ("File", "format_version"): {"pattern": r"^1(\.[0-9]+)*$"},
    ("File", "classes"): {"minItems": 1},
    ("File", "images"): {"minItems": 1},
    ("Class", "name"): {"minLength": 1, "maxLength": LONGEST_CLASS_NAME},
    ("Image", "file_name"): {"minLength": 1, "maxLength": LONGEST_FILE_NAME},
}


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    parts = msgspec.json.schema(dice.File)["$defs"]
    for name, part in parts.items():
        text = inspect.cleandoc(part.get("description", ""))
        described = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
        part["title"] = f"DICE {name.lower()}" if name != "File" else "DICE 1.x annotation file"
        part["description"] = " ".join(text.partition("\n\nAttributes:")[0].split()).replace("``", "")
        for field, value in part["properties"].items():
            value |= CHECKED.get((name, field), {})
            if field in described:
                value["description"] = " ".join(described[field].split()).replace("``", "")
    file = parts.pop("File")
    # These two are COCO's, which nests no annotations in its images.
    file["properties"] |= {"annotations": {"maxItems": 0}, "categories": False}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **file, "$defs": dict(sorted(parts.items()))}


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Writes the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
