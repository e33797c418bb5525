"""How two frozen datasets differ, image by image and class by class: joins over tables, so that a million images take seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import structs

from visionloop.data.annotations import drift
from visionloop.data.annotations.classes import IGNORED, Class
from visionloop.data.annotations.content import class_form, digests
from visionloop.data.annotations.drift import Drift
from visionloop.data.annotations.images import objects_of
from visionloop.data.annotations.tables import OBJECTS, SPLITS, Annotations, Whole, column, images_table, offsets

#: What can change about an image, in the order in which it is reported.
KINDS = ("labels", "bytes", "picture_size", "split", "stated_split")

#: How many images' objects are put into their form at once.
_AT_ONCE = 100_000

#: The number of an ignored object, which is of no class and no class's id.
_APART = -(2**31)

Mask = npt.NDArray[np.bool_]

#: A class: its name, and which of the classes of that name it is.
Name = tuple[str, int]


@dataclass(frozen=True)
class Side:
    """One of two frozen datasets.

    Attributes:
        images: A row for each image, ordered by file name: ``file_name, size, etag, split, also, width, height``; ``stated_split``
            and ``content`` (the digest of all that counts of it) where they are known.
        task: The task.
        on_files: Whether the ETags are SHA-256 of the bytes, as in a folder.
        read: Reads the annotations, their images in the same order. They are let go before those of the other side are read.
        brightness: Its images by brightness, as ``drift.brightness_levels`` gives it; empty where no pixels were read.
    """

    images: pa.Table
    task: str
    on_files: bool
    read: Callable[[], Annotations]
    brightness: Sequence[int] = ()


@dataclass(frozen=True)
class Total:
    """What a dataset holds: the number of images and objects, and of the images of each split."""

    images: int
    objects: int
    splits: Mapping[str, int]


@dataclass(frozen=True)
class ClassChange:
    """A class of either dataset.

    Attributes:
        name: Its name, after if it is there.
        before: Its objects before; None if it was not a class.
        after: Its objects after; None if it is not a class any more.
        was: Its name before, where it was renamed.
        form: Whether its keypoints or the pairs that a mirror swaps differ.
    """

    name: str
    before: int | None
    after: int | None
    was: str | None = None
    form: bool = False

    @property
    def change(self) -> Literal["added", "removed", "renamed", "keypoints"] | None:
        """What became of it; None where it stayed, whatever its number of objects."""
        if self.before is None or self.after is None:
            return "added" if self.before is None else "removed"
        return "renamed" if self.was is not None else "keypoints" if self.form else None


@dataclass(frozen=True)
class Comparison:
    """How two frozen datasets differ.

    Attributes:
        before: What the first holds.
        after: What the second holds.
        added: The file names of images that only the second has.
        removed: The file names of images that only the first has.
        changed: By what changed, the file names of images that both have; an image may have changed in several ways.
        moves: How many images went from one split to another, by both names.
        classes: Every class, those of the second in its order, then those that are gone.
        drift: How far the datasets differ as a whole.
        notices: What was not compared, and what differs besides images and classes; a sentence each.
    """

    before: Total
    after: Total
    added: pa.Array
    removed: pa.Array
    changed: Mapping[str, pa.Array]
    moves: Mapping[tuple[str, str], int]
    classes: Sequence[ClassChange]
    drift: Sequence[Drift]
    notices: Sequence[str]

    @property
    def differs(self) -> bool:
        """Whether any image or class differs; a notice may report more."""
        images = len(self.added) or len(self.removed) or any(len(names) for names in self.changed.values())
        return bool(images) or any(entry.change for entry in self.classes)


def compare(before: Side, after: Side) -> Comparison:
    """Compares two frozen datasets. Names make pairs, of images and of classes: ids differ between formats."""
    notices: list[str] = []
    pairs = _Pairs(before.images, after.images)
    changed: dict[str, Mask] = {
        "bytes": _bytes(pairs, before.on_files == after.on_files, notices),
        "picture_size": pairs.differ("width") | pairs.differ("height"),
        "split": pairs.differ("split") | pairs.differ("also"),
        "stated_split": pairs.differ("stated_split"),
    }
    if not pairs.have("stated_split"):
        notices.append("A snapshot of the first form does not hold what split an image states: that is not compared.")
    # One side's annotations at a time: at a million images both would not fit into memory together with the manifests.
    old = _Summary.of(before.read(), before.brightness)
    read = after.read()
    new = _Summary.of(read, after.brightness)
    renamed = _renamed(old.classes, new.classes)
    old_names, new_names = _names(old.classes, renamed), _names(new.classes, {})
    form = _form(before.task, after.task, notices)
    ranked_alike = before.task == after.task and _ranked(old_names) == _ranked(new_names)
    rows = np.flatnonzero(pairs.differ("content") if ranked_alike and pairs.have("content") else pairs.every)
    changed["labels"] = np.zeros(len(pairs.every), bool)
    if len(rows):
        numbers = {
            name: number for number, name in enumerate(dict.fromkeys([*new_names.values(), *old_names.values()]))
        }
        now = _labels(read, pairs.new[rows], {key: numbers[name] for key, name in new_names.items()}, form)
        del read
        then = _labels(before.read(), pairs.old[rows], {key: numbers[name] for key, name in old_names.items()}, form)
        changed["labels"][rows] = (now != then).any(axis=1)
    if [name for name in _ranked(old_names) if name in new_names.values()] != [
        name for name in _ranked(new_names) if name in old_names.values()
    ]:
        notices.append("The order of the classes differs: a training gives them other numbers.")
    return Comparison(
        before=_total(before.images, old),
        after=_total(after.images, new),
        added=pairs.added,
        removed=pairs.removed,
        changed={kind: pairs.names.filter(pa.array(changed[kind])) for kind in KINDS},
        moves=_moves(pairs, np.flatnonzero(changed["split"])),
        classes=_classes(old, new, old_names, new_names, after.task),
        drift=drift.compare(replace(old.profile, classes=_recounted(old.profile.classes, renamed)), new.profile),
        notices=notices,
    )


class _Pairs:
    """The images that both datasets have, and the rows of each in both."""

    def __init__(self, before: pa.Table, after: pa.Table) -> None:
        old_names, new_names = _combined(before["file_name"]), _combined(after["file_name"])
        at = pc.index_in(new_names, value_set=old_names)
        self._before, self._after = before, after
        self.new: Whole = np.flatnonzero(np.asarray(at.is_valid()))
        self.old: Whole = np.asarray(at.drop_null(), np.int64)
        gone = np.ones(len(old_names), bool)
        gone[self.old] = False
        self.every: Mask = np.ones(len(self.new), bool)
        self.names = new_names.take(pa.array(self.new))
        self.added, self.removed = new_names.filter(pc.is_null(at)), old_names.filter(pa.array(gone))

    def have(self, name: str) -> bool:
        """Whether both have a column: a manifest of the first form lacks some."""
        return name in self._before.schema.names and name in self._after.schema.names

    def values(self, name: str) -> tuple[pa.Array, pa.Array]:
        """A column of the pairs, before and after."""
        sides = (self._before, self.old), (self._after, self.new)
        before, after = (_combined(table[name]).take(pa.array(rows)) for table, rows in sides)
        return before, after

    def differ(self, name: str) -> Mask:
        """Whether a column differs, by pair; never where a side lacks the column. A null equals another one."""
        if not self.have(name):
            return ~self.every
        before, after = self.values(name)
        either = pc.xor(before.is_null(), after.is_null())
        differ: Mask = np.asarray(pc.or_(either, pc.fill_null(pc.not_equal(before, after), False)))
        return differ


@dataclass(frozen=True)
class _Summary:
    """What is kept of annotations: the classes, the objects by class id, what drift is measured of."""

    classes: tuple[Class, ...]
    objects: int
    by_class: Mapping[int, int]
    profile: drift.Profile

    @classmethod
    def of(cls, read: Annotations, brightness: Sequence[int]) -> _Summary:
        ids, counts = np.unique(column(read.objects, "class_id"), return_counts=True)
        by_class = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        classes = tuple(sorted(read.classes, key=lambda entry: entry.id))
        return cls(classes, len(read.objects), by_class, drift.profile(read, brightness))


def _bytes(pairs: _Pairs, comparable: bool, notices: list[str]) -> Mask:
    """Whether the bytes of each pair differ, by what the stores declare."""
    sizes = pairs.differ("size")
    if not comparable:
        notices.append(
            "One dataset lies in a folder and the other in a store, whose ETags are of other kinds: bytes are compared by their number alone."
        )
        return sizes
    before, after = pairs.values("etag")
    declared = pc.and_(pc.not_equal(before, ""), pc.not_equal(after, ""))
    # One that is missing has neither.
    silent = int(pc.sum(pc.invert(declared)).as_py() or 0)
    if silent:
        notices.append(
            f"Images of which a store declares no ETag: {silent:,}; their bytes are compared by their number alone."
        )
    differ: Mask = pairs.differ("etag") & np.asarray(pc.fill_null(declared, True))
    return sizes | differ


def _form(before: str, after: str, notices: list[str]) -> str:
    """The task in whose form objects are compared: what both tasks have."""
    if before == after:
        return before
    form = "classification" if "classification" in (before, after) else "detection"
    compared = "classes" if form == "classification" else "classes and boxes"
    notices.append(f"The tasks differ ({before}, {after}): of the labels {compared} alone are compared.")
    return form


def _renamed(old: Sequence[Class], new: Sequence[Class]) -> dict[str, str]:
    """The new name of each class that kept its id and no other class has the old or had the new name of."""
    after = {entry.id: entry.name for entry in new}
    old_names, new_names = {entry.name for entry in old}, {entry.name for entry in new}
    return {
        entry.name: after[entry.id]
        for entry in old
        if entry.id in after and entry.name not in new_names and after[entry.id] not in old_names
    }


def _names(classes: Sequence[Class], renamed: Mapping[str, str]) -> dict[int, Name]:
    """What pairs each class, by id: its new name, and its place among those of one name."""
    seen: Counter[str] = Counter()
    names = {}
    for entry in classes:
        name = renamed.get(entry.name, entry.name)
        names[entry.id] = (name, seen[name])
        seen[name] += 1
    return names


def _ranked(names: Mapping[int, Name]) -> list[Name]:
    """The classes in the order of their ids."""
    return [names[key] for key in sorted(names)]


def _recounted(counts: Mapping[str, int], renamed: Mapping[str, str]) -> dict[str, int]:
    """Objects by name, under the classes' new names."""
    return {renamed.get(name, name): count for name, count in counts.items()}


def _labels(read: Annotations, rows: Whole, numbers: Mapping[int, int], form: str) -> npt.NDArray[np.uint8]:
    """A digest of each image's objects: 32 bytes a row.

    Args:
        read: The annotations.
        rows: The images.
        numbers: The number of each class that both datasets share, by its id here.
        form: The task in whose form objects are put.
    """
    ids = np.array(sorted(numbers), np.int64)
    shared = np.array([numbers[key] for key in ids.tolist()], np.int64)
    classes = tuple(Class(id=number, name="") for number in range(max(numbers.values(), default=-1) + 1))
    bounds = offsets(read)
    parts = [np.empty((0, 32), np.uint8)]
    for first in range(0, len(rows), _AT_ONCE):
        chosen = rows[first : first + _AT_ONCE]
        at, counts = objects_of(bounds, chosen)
        objects = read.objects.take(pa.array(at)).combine_chunks()
        image = np.repeat(np.arange(len(chosen), dtype=np.int32), counts)
        objects = objects.set_column(0, OBJECTS.field(0), pa.array(image))
        class_id = column(objects, "class_id")
        position = np.minimum(np.searchsorted(ids, class_id), max(0, len(ids) - 1))
        # An id of no class stays apart from every class's number.
        unknown = np.where(class_id == IGNORED, _APART, -1 - class_id)
        number = np.where(ids[position] == class_id, shared[position], unknown) if len(ids) else unknown
        objects = objects.set_column(2, OBJECTS.field(2), pa.array(number.astype(np.int32)))
        blank = images_table(file_name=[""] * len(chosen), key=[""] * len(chosen), position=range(len(chosen)))
        part = replace(read, task=form, classes=classes, images=blank, objects=objects)
        parts.append(np.frombuffer(digests(part).buffers()[1], np.uint8).reshape(-1, 32))
    return np.concatenate(parts)


def _classes(
    old: _Summary, new: _Summary, old_names: Mapping[int, Name], new_names: Mapping[int, Name], task: str
) -> list[ClassChange]:
    """Every class: those of the second dataset in its order, then those that are gone."""
    earlier = {old_names[entry.id]: entry for entry in old.classes}
    changes = []
    for entry in new.classes:
        was = earlier.pop(new_names[entry.id], None)
        changes.append(
            ClassChange(
                entry.name,
                None if was is None else old.by_class.get(was.id, 0),
                new.by_class.get(entry.id, 0),
                None if was is None or was.name == entry.name else was.name,
                was is not None and class_form(structs.replace(was, name=entry.name), task) != class_form(entry, task),
            )
        )
    return changes + [ClassChange(entry.name, old.by_class.get(entry.id, 0), None) for entry in earlier.values()]


def _moves(pairs: _Pairs, rows: Whole) -> dict[tuple[str, str], int]:
    """How many images went from one split to another; an image of two splits is of ``val and test``."""
    sides = []
    for split, also in zip(pairs.values("split"), pairs.values("also"), strict=True):
        both = pc.binary_join_element_wise(split, also, " and ", null_handling="skip")
        sides.append(both.take(pa.array(rows)).to_pylist())
    return dict(Counter(zip(*sides, strict=True)).most_common())


def _total(images: pa.Table, summary: _Summary) -> Total:
    counted = Counter[str]()
    for name in ("split", "also"):
        counted.update({entry["values"]: entry["counts"] for entry in pc.value_counts(images[name]).to_pylist()})
    return Total(len(images), summary.objects, {split: counted[split] for split in SPLITS})


def _combined(values: Any) -> pa.Array:
    """A column as one array."""
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
