"""The columns of DICE's images and objects, collected piece by piece."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.tables import IMAGES, images_table
from visionloop.data.formats.columns import Objects, Optional
from visionloop.data.formats.dice.document import Label, Picture
from visionloop.data.formats.dice.stated import Contradictions
from visionloop.data.formats.document import Piece
from visionloop.data.formats.free import Free
from visionloop.data.formats.json_errors import REMEDY

#: The folder of a dataset's images.
BELOW = "images"

_SPLITS = {"valid": "val", "validation": "val", "": None}


class Columns:
    """Collects images with their objects."""

    def __init__(self, file: str, free: Free, contradictions: Contradictions) -> None:
        """``file`` is named in errors."""
        self.file, self.free, self.contradictions = file, free, contradictions
        self._names: list[pa.Array] = []
        self._sizes: list[npt.NDArray[np.int32]] = []
        self._counts: list[npt.NDArray[np.int64]] = []
        self._text = {name: Optional(IMAGES.field(name).type) for name in ("split", "group", "metadata")}
        self._objects = Objects()

    def add(self, piece: Piece[Picture]) -> None:
        """Adds a piece.

        Raises:
            InvalidDataset: If attributes are not an object, are nested too deeply, or hold a number that JSON can't hold exactly.
        """
        pictures = piece.elements
        labels = [label for picture in pictures for label in picture.annotations]
        counts = np.fromiter([len(picture.annotations) for picture in pictures], np.int64, len(pictures))
        class_ids = [label.class_id for label in labels]
        box, area = self._objects.add(labels, class_ids, lambda row: self._attributes(piece, labels[row]), REMEDY)
        self.contradictions.add(piece, labels, class_ids, counts, box, area)
        self._names.append(pa.array([picture.file_name for picture in pictures], pa.string()))
        self._sizes.append(np.array([[picture.width, picture.height] for picture in pictures], np.int32).T)
        self._counts.append(counts)
        splits = [_SPLITS.get(picture.split or "", picture.split) for picture in pictures]
        columns = {
            "split": pa.array(splits, pa.string()),
            "group": self.free.groups(piece),
            "metadata": self.free.metadata(piece),
        }
        for name, values in columns.items():
            self._text[name].add(values, len(pictures))

    def _attributes(self, piece: Piece[Picture], label: Label) -> str:
        """How the attributes of a label are named."""
        for image, picture in enumerate(piece.elements, piece.first):
            for position, other in enumerate(picture.annotations):
                if other is label:
                    return f"{self.file}: images[{image}].annotations[{position}].attributes"
        return self.file

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """All images and all objects; what was collected is let go."""
        counts = np.concatenate(self._counts)
        rows = len(counts)
        names, (width, height) = pa.chunked_array(self._names, pa.string()), np.concatenate(self._sizes, axis=1)
        self._names.clear()
        images = images_table(
            file_name=names,
            key=pc.binary_join_element_wise(f"{BELOW}/", names, ""),
            width=width,
            height=height,
            position=np.arange(rows, dtype=np.int32),
            **{name: column.whole() for name, column in self._text.items()},
        ).combine_chunks()
        image = np.repeat(np.arange(rows, dtype=np.int32), counts)
        position = np.arange(len(image), dtype=np.int32)
        position -= np.repeat((np.cumsum(counts) - counts).astype(np.int32), counts)
        return images, self._objects.table(image, position).combine_chunks()
