"""What of a dataset is trained on: the images and objects that a run selects, before its split is decided."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.data.annotations.filtered import keep
from visionloop.data.annotations.tables import Annotations
from visionloop.data.annotations.where import parse_where


@dataclass(frozen=True)
class Selection:
    """What a run selects of its dataset.

    Attributes:
        where: The expression that images and objects meet; None for all.
    """

    where: str | None = None

    def of(self, read: Annotations) -> Annotations:
        """The selected part of a dataset, with a notice of what is left out.

        Raises:
            InvalidConfig: If the expression can't be read.
            InvalidDataset: If it does not fit the dataset, or nothing is left.
        """
        return read if self.where is None else keep(read, parse_where(self.where))


#: Everything.
ALL = Selection()
