"""What changed between two exports of a dataset, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from visionloop.data.dice.content import annotation_lines, class_line
from visionloop.data.dice.format import Dataset, shown
from visionloop.data.dice.split import listed

#: Most renamed classes that are listed one by one.
SHOWN_RENAMINGS = 3


def difference(old: Dataset, new: Dataset) -> list[str]:
    """Lists how the content (``annotations_hash``) of two datasets differs; empty if it does not.

    Each entry is a phrase with a count and the first names, such as ``3 images added (a.png, b.png, c.png)`` or
    ``class 4 renamed from "car" to "van"``.
    """
    before = {image.file_name: index for index, image in enumerate(old.images)}
    after = {image.file_name: index for index, image in enumerate(new.images)}
    common = sorted(before.keys() & after.keys())
    sizes, splits, labels = [], [], []
    for name in common:
        earlier, later = old.images[before[name]], new.images[after[name]]
        if (earlier.width, earlier.height) != (later.width, later.height):
            sizes.append(name)
        if earlier.split != later.split:
            splits.append(name)
        if annotation_lines(earlier, old.file, before[name]) != annotation_lines(later, new.file, after[name]):
            labels.append(name)
    phrases = [
        _added("image", "images", sorted(after.keys() - before.keys()), "added"),
        _added("image", "images", sorted(before.keys() - after.keys()), "removed"),
        _changed("annotations", labels),
        _changed("split", splits),
        _changed("width or height", sizes),
    ]
    return [phrase for phrase in phrases if phrase] + _classes(old, new)


def _added(singular: str, plural: str, names: Sequence[str], verb: str) -> str | None:
    return f"{len(names)} {singular if len(names) == 1 else plural} {verb} ({listed(names)})" if names else None


def _changed(what: str, names: Sequence[str]) -> str | None:
    if not names:
        return None
    return f"{len(names)} {'image' if len(names) == 1 else 'images'} with changed {what} ({listed(names)})"


def _classes(old: Dataset, new: Dataset) -> list[str]:
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
        if before[key].name == after[key].name and class_line(before[key]) != class_line(after[key])
    ]
    return [phrase for phrase in phrases if phrase] + renamed + changed
