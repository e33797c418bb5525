"""The classes of several COCO files: categories of one name are one class, whatever their ids."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class, wrong_class_name
from visionloop.data.annotations.keypoints import mirrored
from visionloop.data.annotations.tables import OBJECTS, column
from visionloop.data.formats.coco.document import REMEDY, Category, Document
from visionloop.data.sentences import shown


@dataclass
class Classes:
    """Collects the categories of files; a class has the first id under which its name was seen."""

    by_name: dict[str, Class] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    _of_id: dict[int, tuple[str, str]] = field(default_factory=dict)

    def add(self, document: Document) -> dict[int, int]:
        """Adds a file's categories; the class id of each category id.

        Raises:
            InvalidDataset: If a name can't be a class's, or one id has two names.
        """
        renumbered: dict[int, int] = {}
        for index, category in enumerate(document.categories):
            where = f"{document.file}: categories[{index}]"
            if reason := wrong_class_name(category.name):
                raise InvalidDataset(f"{where}.name: {reason}; {REMEDY}")
            name, other = self._of_id.setdefault(category.id, (category.name, where))
            if name != category.name or category.id in renumbered:
                raise InvalidDataset(
                    f"{where}.id: {category.id} of {shown(category.name)} is already the id of {shown(name)} in "
                    f"{other}; give each category its own id, the same in all files."
                )
            entry = self.by_name.setdefault(category.name, _class(category))
            if entry.id in renumbered.values():
                self.notices.append(
                    f"{where}: a category before it is {shown(category.name)} too, so both are one class."
                )
            renumbered[category.id] = entry.id
        return renumbered

    def number(self, objects: pa.Table, renumbered: dict[int, int], file: str) -> pa.Table:
        """Objects with class ids in place of category ids; ids that are not a category stay.

        Raises:
            InvalidDataset: If an id is not a category of this file but the class of another one.
        """
        ids = column(objects, "class_id")
        for foreign in np.setdiff1d(ids, np.array(list(renumbered), np.int64)).tolist():
            if foreign in self._of_id:
                row = int(np.flatnonzero(ids == foreign)[0])
                position = objects["position"][row].as_py()
                raise InvalidDataset(
                    f"{file}: annotations[{position}].category_id: {foreign} is not a category of this file, only of "
                    f"{self._of_id[foreign][1].partition(': ')[0]}; add it to its categories."
                )
        changed = {old: new for old, new in renumbered.items() if old != new}
        if changed:
            numbers = ids.copy()
            for old, new in changed.items():
                numbers[ids == old] = new
            at = OBJECTS.get_field_index("class_id")
            objects = objects.set_column(at, OBJECTS.field(at), pa.array(numbers.astype(np.int32)))
        return objects

    def checked(self, file: str) -> tuple[Class, ...]:
        """All classes, in the order in which they were seen. Raises InvalidDataset if there is none."""
        if not self.by_name:
            raise InvalidDataset(f"{file}: categories is empty; define at least one and export again.")
        return tuple(self.by_name.values())


def _class(category: Category) -> Class:
    return Class(
        id=category.id,
        name=category.name,
        supercategory=category.supercategory,
        color=category.color if isinstance(category.color, str) else None,
        keypoints=category.keypoints,
        skeleton=category.skeleton,
        flip_pairs=mirrored(category.keypoints or ()),
    )
