"""Which objects of an image are the same before and after, which moved, which took another class, which came and went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from visionloop.data.annotations.images import Annotation, Box

#: The least overlap (intersection over union) of an object that moved, and of one that took another class.
MOVED, RECLASSED = 0.1, 0.5

#: How many objects a side are matched by overlap; those beyond count as gone and new.
MOST = 1000

#: An object with the name of its class.
Named = tuple[str, Annotation]


@dataclass(frozen=True)
class Matched:
    """The objects of an image before and after.

    Attributes:
        kept: Those that are equal, as they are after.
        moved: Pairs of one class whose box, outline or keypoints differ.
        reclassed: Pairs of about one place and two classes.
        gone: Those that were only there before.
        new: Those that are only there after.
    """

    kept: list[Named] = field(default_factory=list)
    moved: list[tuple[Named, Named]] = field(default_factory=list)
    reclassed: list[tuple[Named, Named]] = field(default_factory=list)
    gone: list[Named] = field(default_factory=list)
    new: list[Named] = field(default_factory=list)


def match(before: Sequence[Named], after: Sequence[Named]) -> Matched:
    """Pairs the objects of an image: equal ones first, then those of one class that overlap most, then those of two classes."""
    matched = Matched()
    left: dict[Any, list[Named]] = {}
    for named in before:
        left.setdefault(_form(named), []).append(named)
    new = []
    for named in after:
        if same := left.get(_form(named)):
            same.pop()
            matched.kept.append(named)
        else:
            new.append(named)
    gone = [named for same in left.values() for named in same]
    for pairs, least, one_class in ((matched.moved, MOVED, True), (matched.reclassed, RECLASSED, False)):
        chosen = _overlapping(gone[:MOST], new[:MOST], least, one_class=one_class)
        pairs += [(gone[old], new[now]) for old, now in chosen]
        taken_before, taken_after = {old for old, _ in chosen}, {now for _, now in chosen}
        gone = [named for index, named in enumerate(gone) if index not in taken_before]
        new = [named for index, named in enumerate(new) if index not in taken_after]
    matched.gone.extend(gone)
    matched.new.extend(new)
    return matched


def _form(named: Named) -> Any:
    """What of an object makes it equal to another one."""
    name, entry = named
    outline = tuple(tuple(polygon) for polygon in entry.polygons)
    return name, entry.bbox, entry.iscrowd, outline, entry.mask, tuple(entry.keypoints)


def _overlapping(
    before: Sequence[Named], after: Sequence[Named], least: float, *, one_class: bool
) -> list[tuple[int, int]]:
    """Pairs by index, those that overlap most first; each object is in one pair at most."""
    if not before or not after:
        return []
    overlap = _overlaps([entry.bbox for _, entry in before], [entry.bbox for _, entry in after])
    names, others = np.array([name for name, _ in before], object), np.array([name for name, _ in after], object)
    overlap[(names[:, None] == others[None, :]) != one_class] = 0
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used[0] and column not in used[1]:
            pairs.append((row, column))
            used[0].add(row)
            used[1].add(column)
    return pairs


def _overlaps(before: Sequence[Box | None], after: Sequence[Box | None]) -> npt.NDArray[np.float64]:
    """Intersection over union of each box with each other one; 0 with what has none."""
    sides = []
    for boxes in (before, after):
        corners = np.array([box or (np.nan,) * 4 for box in boxes], np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        sides.append(corners)
    low = np.maximum(sides[0][:, None, :2], sides[1][None, :, :2])
    high = np.minimum(sides[0][:, None, 2:], sides[1][None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = [(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) for corners in sides]
    union = area[0][:, None] + area[1][None, :] - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(shared / union, nan=0.0, posinf=0.0))
