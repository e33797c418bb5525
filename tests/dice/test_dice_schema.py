"""The JSON Schema of DICE is the one that the types make, and takes every DICE file that is read, and no other."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_datasets
from dice_samples import annotation, document, documents, image
from hypothesis import given, settings

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.formats.dice.reader import read_file
from visionloop.data.formats.dice.writer import write

FILE = "annotations_detection.json"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schema", Path(__file__).parents[2] / "docs" / "schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


schema = _load()


def problems(value: Any, part: Any, root: dict[str, Any], where: str = "$") -> list[str]:
    """Where a value is not as a schema says, for the words that DICE's uses."""
    if isinstance(part, bool):
        return [] if part else [where]
    unknown = part.keys() - {
        "$schema", "$defs", "title", "description", "default", "$ref", "anyOf", "type", "enum", "properties", "required", "items",
        "prefixItems", "minItems", "maxItems", "minimum", "exclusiveMaximum", "maximum", "minLength", "maxLength", "pattern",
        "additionalProperties",
    }  # fmt: skip
    assert not unknown, f"{where}: the schema has {unknown}, which this test does not check"
    if "$ref" in part:
        return problems(value, root["$defs"][part["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in part:
        return [] if any(not problems(value, entry, root, where) for entry in part["anyOf"]) else [where]
    if "enum" in part:
        return (
            [] if any(value is entry or (value == entry and value is not True) for entry in part["enum"]) else [where]
        )
    results = [] if "type" not in part or is_of(value, part["type"]) else [where]
    if isinstance(value, str) and not results:
        results += [where] * (not part.get("minLength", 0) <= len(value) <= part.get("maxLength", len(value)))
        results += [where] * (not re.search(part.get("pattern", ""), value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = part.get("minimum", value), part.get("maximum", value)
        results += [where] * (not low <= value <= high or value >= part.get("exclusiveMaximum", math.inf))
    if isinstance(value, list):
        results += [where] * (not part.get("minItems", 0) <= len(value) <= part.get("maxItems", len(value)))
        first = part.get("prefixItems", [])
        for index, entry in enumerate(value):
            results += problems(
                entry, first[index] if index < len(first) else part.get("items", True), root, f"{where}[{index}]"
            )
    if isinstance(value, dict):
        results += [f"{where}.{name}" for name in part.get("required", ()) if name not in value]
        others = part.get("additionalProperties", True)
        for name, entry in value.items():
            results += problems(entry, part.get("properties", {}).get(name, others), root, f"{where}.{name}")
    return results


def is_of(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and (kind == "number" or value == int(value))
        )
    types: dict[str, type] = {"string": str, "array": list, "object": dict, "null": type(None), "boolean": bool}
    return isinstance(value, types[kind])


def wrong(value: Any) -> list[str]:
    written = schema.dice_schema()
    return problems(json.loads(json.dumps(value)), written, written)


def test_the_file_is_current() -> None:
    for name in schema.SCHEMAS:
        written_file = schema.FOLDER / name
        assert written_file.read_text(encoding="utf-8") == schema.text(name), "run .venv/bin/python docs/schema.py"


@pytest.mark.parametrize(
    "value",
    [
        document(),
        document(dataset_id=7, statistics={"total_images": 1, "class_distribution": {"defect": 1}}),
        document([image(split=""), image("b.png", width=900.0, annotations=[])]),
        document([image(annotations=[annotation(segmentation=[[1, 2, 3, 4, 5, 6.5]], keypoints=[1, 2, 2])])]),
        document([image(annotations=[annotation(iscrowd=1, segmentation={"size": [1, 2], "counts": "02"})])]),
        document([image(annotations=[annotation(bbox=None, segmentation={"size": [1, 2], "counts": [1, 1]})])]),
        document(annotations=[]),
    ],
)
def test_it_takes_what_is_read(value: dict[str, Any]) -> None:
    assert wrong(value) == []
    read_file(json.dumps(value).encode(), FILE, None)


def test_it_takes_what_is_written() -> None:
    labels = [annotation(segmentation=[[1, 2, 3, 4, 5, 6.5]], attributes={"a": [1]}, keypoints=[1, 2, 2]), annotation()]
    read = read_file(json.dumps(document([image(annotations=labels)])).encode(), FILE, None)
    [(key, parts)] = write(read).files
    assert key == FILE
    assert wrong(json.loads(b"".join(parts))) == []


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (document(format_version="2.0"), "$.format_version"),
        (document(images=[]), "$.images"),
        (document(classes=[]), "$.classes"),
        (document(classes=[{"id": -1, "name": "a"}]), "$.classes[0].id"),
        (document(classes=[{"id": 1}]), "$.classes[0].name"),
        (document([image(width=0)]), "$.images[0].width"),
        (document([image(height=1.5)]), "$.images[0].height"),
        (document([image(split="dev")]), "$.images[0].split"),
        (document([image(annotations=[annotation(bbox=[1, 2, 3])])]), "$.images[0].annotations[0].bbox"),
        (document([image(annotations=[annotation(iscrowd=2)])]), "$.images[0].annotations[0].iscrowd"),
        (document([image(annotations=[annotation(attributes=[])])]), "$.images[0].annotations[0].attributes"),
        (document([image(annotations=[annotation(segmentation=[["1"]])])]), "$.images[0].annotations[0].segmentation"),
        (document(categories=[{"id": 1, "name": "a"}]), "$.categories"),
        (document(annotations=[{"id": 1}]), "$.annotations"),
    ],
)
def test_it_refuses_what_is_not_read(value: dict[str, Any], where: str) -> None:
    assert where in wrong(value)
    with pytest.raises(InvalidDataset):
        read_file(json.dumps(value).encode(), FILE, None)


def test_every_field_of_an_annotation_is_described() -> None:
    fields = schema.dice_schema()["$defs"]["Annotation"]["properties"]
    assert [name for name, value in fields.items() if "description" not in value] == []
    assert fields["bbox"]["description"] == "x, y, width, height in pixels from the top left corner."
    assert set(schema.dice_schema()["$defs"]) == {"Annotation", Class.__name__, "Image", "RunLength", "Statistics"}


@settings(max_examples=40)
@given(documents())
def test_it_takes_what_the_properties_are_tried_on(value: dict[str, Any]) -> None:
    assert wrong(value) == []


@pytest.mark.parametrize("task", small_datasets.LABELS)
def test_it_takes_the_datasets_of_the_stages_tests(tmp_path: Path, task: str) -> None:
    folder = small_datasets.dataset(tmp_path / "set", task, None)
    assert wrong(json.loads((folder / f"annotations_{task}.json").read_text())) == []
