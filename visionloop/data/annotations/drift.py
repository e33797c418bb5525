"""How far two datasets differ as a whole: the shares of their classes, the sizes of their boxes, the brightness of their images.

Each measure is a distance from 0 (equal) to 1 (disjoint). Two small samples of one and the same source differ too, so a distance
is drift only where it is above the threshold and above three times what chance makes of so few values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import HUNDREDTHS, Annotations, column
from visionloop.data.sentences import printable, shown

#: The distance from which a difference is drift, for each measure.
THRESHOLD = 0.1

#: How many times the distance that chance makes a drift is above.
ABOVE_CHANCE = 3.0

#: The classes whose shares a sentence names.
NAMED_CLASSES = 3

#: The levels of brightness: a picture's mean is one of 0 (black) to 255 (white).
LEVELS = 256

#: Bounds between steps of a box's relative side: 16 a doubling, from 1/1024 to 1. They are exact in binary.
SIDE_BOUNDS: npt.NDArray[np.float64] = np.sort(
    np.concatenate([2.0**-octave * (1 + np.arange(16) / 16) for octave in range(1, 11)])
)

#: The mean of Kolmogorov's distribution, sqrt(pi / 2) · ln 2 (Marsaglia, Tsang, Wang: Evaluating Kolmogorov's Distribution, 2003).
_KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)

#: The objects that are measured at a time.
_AT_ONCE = 2**20

MeasureName = Literal["classes", "box sizes", "brightness"]


@dataclass(frozen=True)
class Profile:
    """What is compared of a dataset.

    Attributes:
        classes: The objects of each class by its name; for classification the labels.
        sides: Boxes by their relative side, the square root of the area over the image's longer side, between SIDE_BOUNDS:
            one number more than there are bounds. Crowd regions and boxes without an area are not counted.
        median_side: The median relative side, 0 to 1; None without boxes.
        brightness: Images by the mean brightness of their pixels, LEVELS numbers; empty where no pixels were read.
    """

    classes: Mapping[str, int] = field(default_factory=dict)
    sides: Sequence[int] = ()
    median_side: float | None = None
    brightness: Sequence[int] = ()


@dataclass(frozen=True)
class Share:
    """A class's share of the objects, 0 to 1, in both datasets."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Drift:
    """One measure of how far two datasets differ.

    Attributes:
        measure: What is measured.
        distance: Total variation distance for classes, Kolmogorov-Smirnov distance for the others; 0 to 1.
        chance: The mean distance of two samples of one source with as many values.
        threshold: The distance from which a difference is drift.
        before: The median before: of the relative sides, or of the brightness; None for classes.
        after: The median after.
        classes: Every class's shares, those that differ most first; empty for other measures.
    """

    measure: MeasureName
    distance: float
    chance: float
    threshold: float = THRESHOLD
    before: float | None = None
    after: float | None = None
    classes: Sequence[Share] = ()

    @property
    def drifted(self) -> bool:
        """Whether the distance is above the threshold, and above what chance makes."""
        return self.distance > max(self.threshold, ABOVE_CHANCE * self.chance)

    @property
    def sentence(self) -> str:
        """The distance and what is behind it, for people: ``classes 0.25 apart: "cat" 50 % → 25 %, "dog" 50 % → 75 %``."""
        if self.measure == "classes":
            moved = [share for share in self.classes if share.before != share.after][:NAMED_CLASSES]
            detail = ", ".join(f"{shown(share.name)} {share.before:.1%} → {share.after:.1%}" for share in moved)
        elif self.before is None or self.after is None:
            detail = ""
        elif self.measure == "box sizes":
            detail = f"median side {self.before:.1%} → {self.after:.1%} of the image's longer side"
        else:
            detail = f"median {self.before:.0f} → {self.after:.0f} of {LEVELS - 1}"
        return printable(f"{self.measure} {self.distance:.2g} apart{f': {detail}' if detail else ''}")


def profile(read: Annotations, brightness: Sequence[int] = ()) -> Profile:
    """What is compared of a dataset.

    Args:
        read: Its annotations.
        brightness: Its images by brightness, as ``brightness_levels`` gives it; empty where no pixels were read.
    """
    sides = relative_sides(read)
    counts = np.bincount(np.searchsorted(SIDE_BOUNDS, sides, side="right"), minlength=len(SIDE_BOUNDS) + 1)
    return Profile(
        classes=class_counts(read),
        sides=counts.tolist() if len(sides) else (),
        median_side=round(float(np.median(sides)), 4) if len(sides) else None,
        brightness=brightness,
    )


def compare(before: Profile, after: Profile, threshold: float = THRESHOLD) -> list[Drift]:
    """Measures how far two datasets differ.

    Args:
        before: The dataset that is compared with.
        after: The dataset as it is now.
        threshold: The distance from which a difference is drift, 0 to 1.

    Returns:
        The measures that both datasets have: classes unless both are without objects, box sizes where both have boxes,
        brightness where the pixels of both were read.
    """
    measures = []
    if before.classes or after.classes:
        measures.append(_classes(before.classes, after.classes, threshold))
    if before.sides and after.sides:
        medians = before.median_side, after.median_side
        measures.append(_steps("box sizes", before.sides, after.sides, medians, threshold))
    if before.brightness and after.brightness:
        medians = median_level(before.brightness), median_level(after.brightness)
        measures.append(_steps("brightness", before.brightness, after.brightness, medians, threshold))
    return measures


def findings(file: str, against: str, measures: Sequence[Drift]) -> list[Finding]:
    """A finding for each measure that drifted; ``against`` is the snapshot that ``file`` is compared with."""
    return [
        Finding("warning", "drift", None, "images[]", printable(f"{file}: images[] {_drifted(against, part)}."))
        for part in measures
        if part.drifted
    ]


def _drifted(against: str, part: Drift) -> str:
    return (
        f"drifted from the champion's {against}, {part.sentence} (above {part.threshold:g}); look at what changed, "
        "and at whether train and test still show what the model will see"
    )


def class_counts(read: Annotations) -> dict[str, int]:
    """The objects of each class that has some, by its name; a class that does not exist counts by its id, an ignored one not."""
    names = {entry.id: entry.name for entry in read.classes}
    ids, numbers = np.unique(column(read.objects, "class_id"), return_counts=True)
    counts: Counter[str] = Counter()
    for class_id, number in zip(ids.tolist(), numbers.tolist(), strict=True):
        if class_id != IGNORED:
            counts[names.get(class_id, str(class_id))] += number
    return dict(counts)


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """The share of each name in all that is counted, 0 to 1; empty without any."""
    total = sum(counts.values())
    return {name: number / total for name, number in counts.items() if number}


def total_variation(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Total variation distance between two distributions: half the sum of the differences, 0 (equal) to 1 (disjoint).

    An empty distribution and one that is not empty are as far apart as can be.
    """
    if bool(before) != bool(after):
        return 1.0
    # fsum: a set has no order, and whether a limit is met must not vary with it.
    return math.fsum(abs(before.get(name, 0.0) - after.get(name, 0.0)) for name in {*before, *after}) / 2


def relative_sides(read: Annotations) -> npt.NDArray[np.float32]:
    """The square root of each box's area over its image's longer side; not of crowd regions, nor of what has no area or no image size."""
    longest = np.maximum(column(read.images, "width"), column(read.images, "height"))
    parts = [np.empty(0, np.float32)]
    for first in range(0, len(read.objects), _AT_ONCE):
        objects = read.objects.slice(first, _AT_ONCE)
        width, height = column(objects, "width"), column(objects, "height")
        side = longest[column(objects, "image")] * HUNDREDTHS
        counted = (width > 0) & (height > 0) & (side > 0) & ~np.asarray(objects["iscrowd"])
        area = width[counted].astype(np.float64) * height[counted]
        parts.append((np.sqrt(area) / side[counted]).astype(np.float32))
    return np.concatenate(parts)


def brightness_levels(means: npt.ArrayLike) -> list[int]:
    """Counts images by the mean brightness of their pixels, 0 to 255: LEVELS numbers, or none without images."""
    levels = np.asarray(means, np.float64).astype(np.int64)
    return np.bincount(levels, minlength=LEVELS).tolist() if len(levels) else []


def median_level(levels: Sequence[int]) -> float:
    """The lower median of counted levels."""
    total = np.cumsum(levels)
    return float(np.searchsorted(total, (total[-1] + 1) // 2))


def _classes(before: Mapping[str, int], after: Mapping[str, int], threshold: float) -> Drift:
    old, new = shares(before), shares(after)
    listed = [Share(name, old.get(name, 0.0), new.get(name, 0.0)) for name in sorted({*old, *new})]
    listed.sort(
        key=lambda share: -round(abs(share.before - share.after), 9)
    )  # equal ones stay in the order of their names
    return Drift("classes", total_variation(old, new), _class_chance(before, after), threshold, classes=listed)


def _class_chance(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """The mean total variation distance of two samples of one source.

    The difference of a share p in samples of m and n is close to normal with variance p (1 − p) (1/m + 1/n), and the mean
    of a normal's absolute value is its deviation times sqrt(2 / pi).
    """
    counts = np.array([[side.get(name, 0) for name in sorted({*before, *after})] for side in (before, after)])
    if not counts.sum(axis=1).all():
        return 0.0
    share = counts.sum(axis=0) / counts.sum()
    deviation = np.sqrt(share * (1 - share) * (1 / counts.sum(axis=1)).sum())
    return math.fsum(deviation.tolist()) * math.sqrt(2 / math.pi) / 2


def _steps(
    measure: MeasureName,
    before: Sequence[int],
    after: Sequence[int],
    medians: tuple[float | None, float | None],
    threshold: float,
) -> Drift:
    """The greatest difference between the two shares of values below a bound, and what it is by chance."""
    counts = np.array([before, after], np.float64)
    totals = counts.sum(axis=1)
    below = np.cumsum(counts, axis=1) / totals[:, None]
    chance = _KOLMOGOROV_MEAN * math.sqrt((1 / totals).sum())
    return Drift(measure, float(np.abs(below[0] - below[1]).max()), chance, threshold, *medians)
