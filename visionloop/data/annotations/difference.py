"""What changed between two exports of a dataset, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from visionloop.data.annotations.content import class_form, digests
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.tables import Annotations, images_table
from visionloop.data.sentences import shown

#: Most renamed classes that are listed one by one.
SHOWN_RENAMINGS = 3


def difference(old: Annotations, new: Annotations) -> list[str]:
    """Lists how the content (``annotations_hash``) of two datasets differs; empty if it does not.

    Each entry is a phrase with a count and the first names, such as ``3 images added (a.png, b.png, c.png)`` or
    ``class 4 renamed from "car" to "van"``.
    """
    classes = _classes(old, new) if _ranked(old) != _ranked(new) else []
    before, after = (_by_name(replace(read, classes=()) if classes else read) for read in (old, new))
    common = sorted(before.keys() & after.keys())
    changed = [(name, before[name], after[name]) for name in common if before[name].digest != after[name].digest]
    sizes = [name for name, earlier, later in changed if earlier.size != later.size]
    splits = [name for name, earlier, later in changed if earlier.split != later.split]
    labels = [name for name, earlier, later in changed if earlier.objects != later.objects]
    phrases = [
        _added("image", "images", sorted(after.keys() - before.keys()), "added"),
        _added("image", "images", sorted(before.keys() - after.keys()), "removed"),
        _changed("annotations", labels),
        _changed("split", splits),
        _changed("width or height", sizes),
    ]
    return [phrase for phrase in phrases if phrase] + classes


def _ranked(read: Annotations) -> list[bytes]:
    """What counts of the classes, in the order of their ids."""
    return [class_form(entry, read.task) for entry in sorted(read.classes, key=lambda entry: entry.id)]


@dataclass(frozen=True)
class _Content:
    """Two digests of an image, of all that counts and of its objects alone, and what else is stated of it."""

    digest: bytes
    objects: bytes
    size: tuple[int | None, int | None]
    split: str | None


def _by_name(read: Annotations) -> dict[str, _Content]:
    """The content of each image by its file name; without classes the ids of objects count, not their ranks."""
    rows = range(len(read.images))
    blank = images_table(file_name=[""] * len(rows), key=[""] * len(rows), position=rows)
    columns = [read.images[name].to_pylist() for name in ("file_name", "width", "height", "split")]
    contents = zip(*columns, digests(read).to_pylist(), digests(replace(read, images=blank)).to_pylist(), strict=True)
    return {
        name: _Content(digest, objects, (width, height), split)
        for name, width, height, split, digest, objects in contents
    }


def _added(singular: str, plural: str, names: Sequence[str], verb: str) -> str | None:
    return f"{len(names)} {singular if len(names) == 1 else plural} {verb} ({listed(names)})" if names else None


def _changed(what: str, names: Sequence[str]) -> str | None:
    if not names:
        return None
    return f"{len(names)} {'image' if len(names) == 1 else 'images'} with changed {what} ({listed(names)})"


def _classes(old: Annotations, new: Annotations) -> list[str]:
    before = {class_.id: class_ for class_ in old.classes}
    after = {class_.id: class_ for class_ in new.classes}
    phrases = [
        _added("class", "classes", [f"{key} {shown(after[key].name)}" for key in after.keys() - before], "added"),
        _added("class", "classes", [f"{key} {shown(before[key].name)}" for key in before.keys() - after], "removed"),
    ]
    common = sorted(before.keys() & after.keys())
    renamed = [
        f"class {key} renamed from {shown(before[key].name)} to {shown(after[key].name)}"
        for key in common
        if before[key].name != after[key].name
    ]
    if len(renamed) > SHOWN_RENAMINGS:
        renamed[SHOWN_RENAMINGS:] = [f"{len(renamed) - SHOWN_RENAMINGS} more classes renamed"]
    changed = [
        f"class {key} {shown(after[key].name)} with changed keypoints or flip pairs"
        for key in common
        if before[key].name == after[key].name and class_form(before[key], new.task) != class_form(after[key], new.task)
    ]
    return [phrase for phrase in phrases if phrase] + renamed + changed
