"""What of a dataset is trained on: the images, objects and classes that a run selects, before its split is decided."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.data.annotations.class_mapping import ClassMapping, map_classes
from visionloop.data.annotations.filtered import keep
from visionloop.data.annotations.tables import Annotations
from visionloop.data.annotations.where import parse_where


@dataclass(frozen=True)
class Selection:
    """What a run selects of its dataset; ``where`` comes first, and speaks of the dataset's own classes.

    Attributes:
        where: The expression that images and objects meet; None for all.
        classes: What becomes of the classes; None leaves them.
    """

    where: str | None = None
    classes: ClassMapping | None = None

    def facts(self, read: Annotations) -> dict[str, str]:
        """What was selected, and what that left out of the annotations, for people; empty for everything."""
        facts = {}
        if self.where is not None:
            facts = {"Where": self.where, "Left out": _said(read, LEAVES_OUT)}
        return facts if self.classes is None else facts | {"Classes chosen": _said(read, CLASSES)}

    def of(self, read: Annotations) -> Annotations:
        """The selected part of a dataset, with notices of what is left out.

        Raises:
            InvalidConfig: If the expression can't be read.
            InvalidDataset: If it does not fit the dataset, or nothing is left.
        """
        if self.where is not None:
            read = keep(read, parse_where(self.where))
        return read if self.classes is None else map_classes(read, self.classes)


#: How the notices of a selection begin.
LEAVES_OUT, CLASSES = "--where leaves out ", "--classes: "


def _said(read: Annotations, start: str) -> str:
    """The notices that begin in a way, without it."""
    said = (notice.removeprefix(start).rstrip(".") for notice in read.notices if notice.startswith(start))
    return "; ".join(said)


#: Everything.
ALL = Selection()
