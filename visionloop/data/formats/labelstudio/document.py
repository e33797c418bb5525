"""The JSON document: its tasks, decoded a few thousand at a time."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from visionloop.core.encodings import without_mark
from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.json_errors import wrong_json
from visionloop.data.sentences import printable

REMEDY = "export it again from Label Studio."

#: How many tasks are decoded at once.
TASKS_AT_ONCE = 5_000

Number = float | None
Names = tuple[str, ...] | None


class Value(Struct, gc=False):
    """Where a region lies, in percent of the picture's sides, and its labels."""

    x: Number = None
    y: Number = None
    width: Number = None
    height: Number = None
    rotation: Number = None
    radiusX: Number = None  # noqa: N815 - the format's name
    radiusY: Number = None  # noqa: N815
    points: tuple[tuple[float, float], ...] | None = None
    rle: msgspec.Raw = msgspec.Raw()
    rectanglelabels: Names = None
    polygonlabels: Names = None
    ellipselabels: Names = None
    brushlabels: Names = None
    keypointlabels: Names = None
    labels: Names = None
    choices: Names = None


class Region(Struct, gc=False):
    """An entry of ``result``: a region, or a statement about one or about the whole picture."""

    type: str = ""
    value: Value | None = None
    id: str | int | None = None
    from_name: str | None = None
    original_width: Number = None
    original_height: Number = None
    image_rotation: Number = None


class Annotation(Struct, gc=False):
    """What one person labelled; cancelled where the task was skipped."""

    result: tuple[Region, ...] | None = None
    was_cancelled: bool | None = None
    skipped: bool | None = None


class Task(Struct, gc=False):
    """A task: its data, which names the image, and its annotations (``completions`` in exports of the first versions)."""

    data: dict[str, Any]
    annotations: tuple[Annotation, ...] | None = None
    completions: tuple[Annotation, ...] | None = field(default=None)

    @property
    def last(self) -> Annotation | None:
        """The last annotation that is not cancelled; None where nobody labelled it."""
        of_people = [*(self.annotations or ()), *(self.completions or ())]
        return next((entry for entry in reversed(of_people) if not (entry.was_cancelled or entry.skipped)), None)


def tasks(path: Path, file: str) -> Iterator[tuple[int, list[Task]]]:
    """The tasks in pieces, each with the index of its first.

    Args:
        path: The file on this machine.
        file: Its name, for errors.

    Raises:
        InvalidDataset: If it is not a list of tasks; the sentence says which field is wrong.
    """
    with path.open("rb") as opened:
        # Only the pages in use are in memory; an empty file can't be mapped.
        data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    view = memoryview(data)
    try:
        raw = msgspec.json.decode(view[3:] if data[:3] == b"\xef\xbb\xbf" else view, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise InvalidDataset(f"{file}: the file is not a list of tasks; {REMEDY}") from None
        raise InvalidDataset(printable(f"{file}: {wrong_json(error, without_mark(bytes(data)))}; {REMEDY}")) from None
    for first in range(0, len(raw), TASKS_AT_ONCE):
        yield first, _decoded(b"[" + b",".join(map(bytes, raw[first : first + TASKS_AT_ONCE])) + b"]", first, file)


def _decoded(piece: bytes, first: int, file: str) -> list[Task]:
    try:
        return msgspec.json.decode(piece, type=list[Task])
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        path = re.sub(r"^\[(\d+)\]", lambda match: f"[{first + int(match[1])}]", path.rstrip("`"))
        problem = f"{text[:1].lower()}{text[1:].replace('`', '')}"
        raise InvalidDataset(printable(f"{file}: {path}: {problem}; {REMEDY}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidDataset(printable(f"{file}: tasks from [{first}] on: {error}; {REMEDY}")) from None
    except RecursionError:
        raise InvalidDataset(f"{file}: tasks from [{first}] on: the JSON is nested too deeply; {REMEDY}") from None
