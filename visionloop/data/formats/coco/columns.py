"""The columns of COCO's images and annotations, collected piece by piece."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionloop.data.formats.coco.document import REMEDY, Label, Picture
from visionloop.data.formats.columns import Objects
from visionloop.data.formats.document import Piece


class Ids:
    """Collects ids: whole numbers in nearly every file, else texts."""

    def __init__(self) -> None:
        """Without an id."""
        self._parts: list[npt.NDArray[np.int64] | list[str]] = []

    def add(self, ids: list[int | str]) -> None:
        """Adds some; the whole number 7 and the text "7" are one id."""
        try:
            self._parts.append(np.array(array("q", ids)))  # type: ignore[type-var]
        except (TypeError, OverflowError):
            self._parts.append([str(identity) for identity in ids])

    def whole(self) -> pa.ChunkedArray:
        """All of them; what was collected is let go."""
        parts, self._parts = self._parts, []
        if any(isinstance(part, list) for part in parts):
            texts = [
                part if isinstance(part, list) else [str(identity) for identity in part.tolist()] for part in parts
            ]
            return pa.chunked_array([pa.array(part, pa.string()) for part in texts])
        return pa.chunked_array([pa.array(np.concatenate(parts) if parts else [], pa.int64())])


class Annotated:
    """Collects the annotations of a file, with the ids of their images and of their categories."""

    def __init__(self, file: str) -> None:
        """``file`` is named in errors."""
        self.file = file
        self.ids = Ids()
        self._objects = Objects()
        self._rows = 0

    def add(self, piece: Piece[Label]) -> None:
        """Adds a piece.

        Raises:
            InvalidDataset: If attributes are not an object, are nested too deeply, or hold a number that JSON can't hold exactly.
        """
        labels = piece.elements
        self.ids.add([label.image_id for label in labels])
        self._objects.add(
            labels,
            [label.category_id for label in labels],
            lambda row: f"{self.file}: annotations[{piece.first + row}].attributes",
            REMEDY,
        )
        self._rows += len(labels)

    def table(self) -> pa.Table:
        """All objects, of which ``image`` is 0 and ``class_id`` the category's id in the file; what was collected is let go."""
        position = np.arange(self._rows, dtype=np.int32)
        return self._objects.table(np.zeros(self._rows, np.int32), position)


def sizes(pictures: list[Picture]) -> tuple[Any, Any]:
    """Width and height of images; null where none is stated."""
    width, height = ([getattr(picture, side) or None for picture in pictures] for side in ("width", "height"))
    return pa.array(width, pa.int32()), pa.array(height, pa.int32())
