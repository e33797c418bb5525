"""The free values of a file's images: their metadata, and the field that groups them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pyarrow as pa
import rfc8785

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.tables import PEOPLE
from visionloop.data.formats.document import NOTHING, Piece
from visionloop.data.formats.json_errors import REMEDY
from visionloop.data.formats.nesting import DEEPEST, depth


class Free:
    """The free values of images: their metadata, and the field that groups them."""

    def __init__(self, file: str, group: str | None, option: str = "group") -> None:
        """``group`` is a field of an image, or of its ``metadata`` or ``attributes``; the first that has it counts.

        ``option`` is what names it in the split's rule, for errors.
        """
        self.file, self.group, self.grouping = file, group, f"{option}={group}"
        self.grouped = 0
        if group in ("file_name", "annotations", "metadata", "attributes"):
            raise InvalidConfig(f"{self.grouping} is not a field with a value of an image; name another one of {file}.")
        fields: list[Any] = [("metadata", Any, None), ("attributes", Any, None)]
        if group is not None:
            fields.append(("value", Any, msgspec.field(name=group, default=None)))
        self.type = msgspec.defstruct("Free", fields, gc=False)

    def metadata(self, piece: Piece[Any]) -> pa.Array | None:
        """The metadata of each image of a piece, whose elements have it as JSON; None without any."""
        values = [image.metadata for image in piece.elements]
        if values.count(NOTHING) == len(values):
            return None
        return pa.array([self._metadata(value, piece.first + row) for row, value in enumerate(values)], pa.string())

    def _metadata(self, text: msgspec.Raw, index: int) -> str | None:
        try:
            return _metadata(text)
        except msgspec.DecodeError as error:
            raise InvalidDataset(f"{self.file}: images[{index}].metadata: {error}; {REMEDY}") from None

    def groups(self, piece: Piece[Any]) -> pa.Array | None:
        """The group of each image of a piece; None without such a rule."""
        if self.group is None:
            return None
        try:
            images = msgspec.json.decode(piece.array, type=list[self.type])  # type: ignore[name-defined]
        except msgspec.DecodeError as error:
            raise InvalidDataset(f"{self.file}: images[{piece.first}] or behind it: {error}; {REMEDY}") from None
        return pa.array([self._group(image, piece.first + row) for row, image in enumerate(images)], pa.string())

    def _group(self, image: Any, index: int) -> str | None:
        holders = [holder for holder in (image.metadata, image.attributes) if isinstance(holder, dict)]
        values = [image.value, *(holder.get(self.group) for holder in holders)]
        value = next((value for value in values if value not in (None, "")), None)
        if isinstance(value, list | dict):
            raise InvalidConfig(
                f"{self.file}: images[{index}]: {self.grouping} is a list or an object; name another field."
            )
        self.grouped += value is not None
        if value is None or isinstance(value, str):
            return value
        return str(rfc8785.dumps(value), "utf-8")

    def finish(self) -> None:
        """Raises InvalidConfig if no image has the group's field."""
        if self.group is not None and not self.grouped:
            raise InvalidConfig(f"{self.file}: {self.grouping} is a field of no image; name one that the images have.")


_ENCODER = msgspec.json.Encoder(order="sorted")


def _metadata(text: msgspec.Raw) -> str | None:
    """Free values without people and dates; None if nothing is left, or they are nested too deeply."""
    value = msgspec.json.decode(text) if bytes(text) else None
    if not isinstance(value, dict):
        return None
    kept = {key: item for key, item in value.items() if key not in PEOPLE}
    with contextlib.suppress(RecursionError):
        return _ENCODER.encode(kept).decode() if kept and depth(kept) <= DEEPEST else None
    return None
