"""Shapes that labelling tools draw, as boxes and polygons, and which of them serve which task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import cos, radians, sin, tau

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import BOX, OBJECTS, Whole, column
from visionloop.data.formats.keys import counted
from visionloop.data.formats.rows import Box
from visionloop.data.sentences import printable

#: How many corners an ellipse gets as a polygon: within 0.3 % of its radius.
ELLIPSE_CORNERS = 48

Polygon = list[float]


class Kind(IntEnum):
    """What an object was drawn as."""

    RECTANGLE = 0
    POLYGON = 1
    MASK = 2
    SKELETON = 3
    LABEL = 4


#: How the kinds are named in sentences, one and several of them.
WORDS = {
    Kind.RECTANGLE: ("rectangle", "rectangles"),
    Kind.POLYGON: ("polygon", "polygons"),
    Kind.MASK: ("mask", "masks"),
    Kind.SKELETON: ("skeleton", "skeletons"),
    Kind.LABEL: ("label of an image", "labels of images"),
}

#: What each task is learned from, in the order in which a task is chosen where none is asked for.
SERVES = {
    "detection": (Kind.RECTANGLE, Kind.POLYGON, Kind.MASK),
    "segmentation": (Kind.RECTANGLE, Kind.POLYGON, Kind.MASK),
    "pose": (Kind.SKELETON,),
    "classification": (Kind.LABEL,),
}

#: What a task can't do without: a file of rectangles alone is not one to learn outlines from.
_NEEDS = SERVES | {"segmentation": (Kind.POLYGON, Kind.MASK)}


def turned(box: Box, degrees: float, pivot: tuple[float, float]) -> Polygon:
    """The corners of a rectangle that is turned clockwise around a point, in pixels."""
    x, y, width, height = box
    across, down = cos(radians(degrees)), sin(radians(degrees))
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    polygon: Polygon = []
    for left, top in corners:
        right, below = left - pivot[0], top - pivot[1]
        # y grows downwards, so this turns clockwise.
        polygon += [pivot[0] + right * across - below * down, pivot[1] + right * down + below * across]
    return polygon


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float) -> Polygon:
    """An ellipse, turned clockwise around its centre, as a polygon in pixels."""
    across, down = cos(radians(degrees)), sin(radians(degrees))
    polygon: Polygon = []
    for corner in range(ELLIPSE_CORNERS):
        right = radii[0] * cos(tau * corner / ELLIPSE_CORNERS)
        below = radii[1] * sin(tau * corner / ELLIPSE_CORNERS)
        polygon += [centre[0] + right * across - below * down, centre[1] + right * down + below * across]
    return polygon


def bounds(polygon: Sequence[float]) -> Box:
    """The box around a polygon's corners."""
    left, top = min(polygon[::2]), min(polygon[1::2])
    return left, top, max(polygon[::2]) - left, max(polygon[1::2]) - top


@dataclass
class Drawn:
    """Counts what a file holds besides the objects that are read.

    Attributes:
        turned: Rectangles that are turned.
        ellipses: Ellipses.
        not_read: What is not read, by its words for one and for several.
        wrong_masks: Masks that can't be decoded, or don't fit their image.
    """

    turned: int = 0
    ellipses: int = 0
    not_read: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong_masks: list[Finding] = field(default_factory=list)

    def wrong_mask(self, file: str, file_name: str, where: str, sentence: str) -> None:
        """Adds the finding about a mask of an image, from the sentence that refuses it."""
        text = printable(f"{file}: {file_name}: {sentence.removeprefix(f'{file}: ')}")
        self.wrong_masks.append(Finding("error", "mask", file_name, where, text))

    def findings(self, task: str) -> tuple[Finding, ...]:
        """What is wrong with objects that a task is learned from."""
        return tuple(self.wrong_masks) if Kind.MASK in SERVES[task] else ()

    def notices(self, task: str) -> Iterator[str]:
        """How these are read, and what is not."""
        ways = {"detection": "the box around its corners is taken", "segmentation": "its four corners are the polygon"}
        if self.turned and task in ways:
            yield f"{counted(self.turned, 'rectangle is', 'rectangles are')} turned: of each {ways[task]}."
        ways = {
            "detection": "the box around it is taken",
            "segmentation": f"it becomes a polygon of {ELLIPSE_CORNERS} corners",
        }
        if self.ellipses and task in ways:
            yield f"{counted(self.ellipses, 'ellipse', 'ellipses')}: of each {ways[task]}."
        for words, number in sorted(self.not_read.items()):
            yield f"{counted(number, *words)} not read."


def choose_task(asked: str | None, kinds: Whole, file: str) -> tuple[str, list[str]]:
    """The task that a file is read for, and what is said of the choice.

    Args:
        asked: The task that is asked for; None takes the first that the file serves.
        kinds: The kind of each object.
        file: Its name, for errors.

    Raises:
        InvalidConfig: If the file has nothing that the task is learned from.
    """
    present = {Kind(kind) for kind in np.unique(kinds).tolist()}
    tasks = [task for task, needed in _NEEDS.items() if present & set(needed)]
    if asked is None:
        task = tasks[0] if tasks else "detection"
        others = [other for other in tasks if other != task]
        notices = [f"{task} is taken; {' and '.join(others)} could be chosen with --task."] if others else []
    elif present and not present & set(SERVES.get(asked, ())):
        served = " or ".join(tasks)
        raise InvalidConfig(f"{file}: nothing is labelled for {asked}; choose --task {served}.")
    else:
        task, notices = asked, []
    for kind in sorted(present - set(SERVES[task])):
        number = int((kinds == kind).sum())
        notices.append(f"{counted(number, *WORDS[kind])} left out: not for {task}.")
    return task, notices


def of_task(objects: pa.Table, kinds: Whole, task: str) -> tuple[pa.Table, list[str]]:
    """The objects that a task is learned from, and what is said of them; for segmentation rectangles become polygons."""
    rows = np.flatnonzero(np.isin(kinds, SERVES[task]))
    objects, kinds = objects.take(pa.array(rows)).combine_chunks(), kinds[rows]
    plain = (kinds == Kind.RECTANGLE) & np.asarray(objects["polygons"].is_null())
    if task != "segmentation" or not plain.any():
        return objects, []
    x, y, width, height = (column(objects, name) for name in BOX)
    right, below = x + width, y + height
    corners = np.stack([x, y, right, y, right, below, x, below], axis=1).astype(np.int32)
    at = OBJECTS.get_field_index("polygons")
    made = pa.array([[corner] for corner in corners.tolist()], OBJECTS.field(at).type)
    polygons = pc.if_else(pa.array(plain), made, objects["polygons"])
    words = counted(int(plain.sum()), "rectangle becomes", "rectangles become")
    return objects.set_column(at, OBJECTS.field(at), polygons), [f"{words} a polygon of its corners each."]


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """The keypoints that a mirror swaps: those whose names differ by left and right alone."""
    index = {name.lower(): position for position, name in enumerate(names)}
    pairs = [
        (position, index[other])
        for name, position in index.items()
        if "left" in name and (other := name.replace("left", "right")) in index
    ]
    return tuple(pairs) or None


def words(values: Iterable[str]) -> str:
    """The first names of several in a sentence."""
    names = list(values)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
