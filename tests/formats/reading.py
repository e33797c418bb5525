"""Datasets in a folder, written and read in a line."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visionloop.core.errors import VisionloopError
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.hints import with_hint

#: Contents by path, texts or bytes.
Files = Mapping[str, Any]


def picture(width: int = 40, height: int = 20) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(data, "PNG")
    return data.getvalue()


PICTURE = picture()


def written(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(
    name: str, folder: Path, files: Files | None = None, task: str | None = None, group: str | None = None
) -> Annotations:
    dataset = written(folder / "dataset", files or {})
    source = formats.Source(open_prefix(str(dataset), "dataset"), folder / "work", task=task, group=group)
    annotations = with_hint(formats.reader(name)(source), source)
    check(annotations)
    return annotations


def check(annotations: Annotations) -> None:
    """What holds of every dataset that is read."""
    annotations.images.validate(full=True)
    annotations.objects.validate(full=True)
    names = annotations.images["file_name"].to_pylist()
    assert len(set(names)) == len(names) > 0
    for key in annotations.images["key"].to_pylist():
        assert not key.startswith("/")
        assert not {"..", ".", ""} & set(key.split("/"))
    assert set(annotations.objects["class_id"].to_pylist()) <= {entry.id for entry in annotations.classes}
    image = annotations.objects["image"].to_pylist()
    assert image == sorted(image)
    assert not image or max(image) < len(names)


def refused(name: str, folder: Path, files: Files, task: str | None = None, code: int = 65) -> str:
    """The sentence with which a dataset is refused."""
    with pytest.raises(VisionloopError) as error:
        read(name, folder, files, task)
    assert error.value.exit_code == code, error.value.sentence
    assert error.value.sentence.endswith(".")
    return error.value.sentence


def read_or_refused(name: str, folder: Path, files: Files, task: str | None = None) -> str | None:
    """The sentence with which a dataset is refused, None where it is read."""
    error: VisionloopError | None = None
    try:
        read(name, folder, files, task)
    except VisionloopError as raised:
        error = raised
    assert error is None or error.exit_code == 65, error.sentence
    return None if error is None else error.sentence


def boxes(annotations: Annotations) -> list[list[float]]:
    columns = [annotations.objects[name].to_pylist() for name in ("x", "y", "width", "height")]
    return [[value / 100 for value in box] for box in zip(*columns, strict=True)]


def class_names(annotations: Annotations) -> list[str]:
    """The class of each object."""
    names = {entry.id: entry.name for entry in annotations.classes}
    return [names[number] for number in annotations.objects["class_id"].to_pylist()]
