"""The free values of a file's images: their metadata, and the field that groups them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pyarrow as pa
import rfc8785

from visionloop.core.errors import InvalidConfig
from visionloop.data.dice import format as dice
from visionloop.data.formats.document import Piece, decode_whole

#: Who labelled an image, and when: never kept.
PEOPLE = frozenset({"labeled_by", "labeled_at", "reviewed_by", "reviewed_at"})


class Free:
    """The free values of images: their metadata, and the field that groups them."""

    def __init__(self, file: str, group: str | None) -> None:
        """``group`` is a field of an image, or of its ``metadata`` or ``attributes``; the first that has it counts."""
        self.file, self.group = file, group
        self.grouped = 0
        fields: list[Any] = [("metadata", Any, None)]
        if group is not None:
            if group in ("file_name", "annotations", "metadata", "attributes"):
                raise InvalidConfig(f"group={group} groups no images; name another field of the images in {file}.")
            fields += [("attributes", Any, None), ("value", Any, msgspec.field(name=group, default=None))]
        self.type = msgspec.defstruct("Free", fields, gc=False)

    def read(self, piece: Piece) -> tuple[pa.Array, pa.Array]:
        """The group and the metadata of each image of a piece."""
        if self.group is None and not piece.may_name(b"metadata"):
            return (pa.nulls(len(piece.elements), pa.string()),) * 2
        groups, metadata = [], []
        for row, image in enumerate(decode_whole(piece.array, list[self.type])):  # type: ignore[name-defined]
            metadata.append(_metadata(image.metadata))
            groups.append(None if self.group is None else self._group(image, piece.first + row))
        return pa.array(groups, pa.string()), pa.array(metadata, pa.string())

    def _group(self, image: Any, index: int) -> str | None:
        holders = [holder for holder in (image.metadata, image.attributes) if isinstance(holder, dict)]
        values = [image.value, *(holder.get(self.group) for holder in holders)]
        value = next((value for value in values if value not in (None, "")), None)
        if isinstance(value, list | dict):
            raise InvalidConfig(
                f"{self.file}: images[{index}]: group={self.group} is a list or an object; name another field."
            )
        self.grouped += value is not None
        if value is None or isinstance(value, str):
            return value
        return str(rfc8785.dumps(value), "utf-8")

    def finish(self) -> None:
        """Raises InvalidConfig if no image has the group's field."""
        if self.group is not None and not self.grouped:
            raise InvalidConfig(
                f"{self.file}: group={self.group} is a field of no image; name one that the images have."
            )


_ENCODER = msgspec.json.Encoder(order="sorted")


def _metadata(value: object) -> str | None:
    """Free values without people and dates; None if nothing is left, or they are nested too deeply."""
    if not isinstance(value, dict):
        return None
    kept = {key: item for key, item in value.items() if key not in PEOPLE}
    with contextlib.suppress(RecursionError):
        return _ENCODER.encode(kept).decode() if kept and dice.depth(kept) <= dice.DEEPEST else None
    return None
