"""What kind of mistake each wrong detection and each missed object is, and what average precision each kind costs.

D. Bolya and others, TIDE: a general toolbox for identifying object detection errors, https://arxiv.org/abs/2008.08115: with an overlap
of at least `RIGHT` a detection is right, below `BACKGROUND` it is about nothing. A detection has one kind at most, the first of these that
fits (in the order of the paper's own program):

- ``localisation``: it overlaps an object of its class by `BACKGROUND` to `RIGHT`;
- ``class``: it overlaps an object of another class by `RIGHT` or more;
- ``duplicate``: it overlaps an object of its class by `RIGHT` or more, which a more confident detection has matched;
- ``background``: it overlaps no object by more than `BACKGROUND`;
- ``both``: what is left: it overlaps an object of another class by `BACKGROUND` to `RIGHT`.

An object is ``missed`` where no detection matches it, and none of the kinds ``localisation`` and ``class`` is about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.components.evaluate.slicing import LEAST

#: The overlaps of the paper: t_f and t_b.
RIGHT, BACKGROUND = 0.5, 0.1

#: The least confidence of a detection that is counted.
CONFIDENCE = 0.25

#: The most detections of an image from which the cost is measured, the most confident ones.
MOST = 100

#: The kinds, in the order in which the page has them; and what becomes of the other detections.
KINDS = ("class", "localisation", "both", "duplicate", "background", "missed")
MATCHED, ASIDE = "matched", "aside"

_RECALLS = np.linspace(0, 1, 101)

Array = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """What became of an image's D detections and its objects.

    Attributes:
        kinds: A kind for each detection, or `MATCHED`, or `ASIDE` for one that is passed over.
        objects: By detection the index of the object that it matches or should have matched, -1 for one that is about none.
        unmatched: The indices of the objects that no detection matches.
        missed: Those of them that are missed.
    """

    kinds: tuple[str, ...]
    objects: tuple[int, ...]
    unmatched: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def wrong(self) -> tuple[int, ...]:
        """The indices of the detections that have a kind."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind in KINDS)

    def counts(self) -> Counter[str]:
        """The number of mistakes by kind."""
        return Counter([*(self.kinds[index] for index in self.wrong), *["missed"] * len(self.missed)])


def judge(predicted: Sequence[int], true: Sequence[int], shared: Array, aside: Array) -> Judged:
    """Judges an image's detections, the most confident first.

    Args:
        predicted: The class of each of D detections.
        true: The class of each of N objects.
        shared: Their overlaps, D × N.
        aside: Whether a detection is passed over unless it matches an object, D: it lies in a crowd region.
    """
    same = np.asarray(predicted, int)[:, None] == np.asarray(true, int)
    own, other = shared * same, shared * ~same
    left, matches = own.copy(), [-1] * len(predicted)
    for detection in range(len(predicted) if len(true) else 0):
        best = int(left[detection].argmax())
        if left[detection, best] >= RIGHT:
            matches[detection] = best
            left[:, best] = 0
    kinds, objects = [], []
    for detection, match in enumerate(matches):
        about, kind = match, MATCHED
        if match < 0:
            about, kind = (-1, ASIDE) if aside[detection] else _kind(own[detection], other[detection])
        kinds.append(kind)
        objects.append(about)
    unmatched = sorted(set(range(len(true))) - set(matches))
    near = {about for kind, about in zip(kinds, objects, strict=True) if kind in ("localisation", "class")}
    return Judged(tuple(kinds), tuple(objects), tuple(unmatched), tuple(each for each in unmatched if each not in near))


def _kind(own: Array, other: Array) -> tuple[int, str]:
    """The object that a wrong detection is about, and its kind, from its overlaps with the objects of its class and of others."""
    if not len(own):
        return -1, "background"
    nearest, another = int(own.argmax()), int(other.argmax())
    if BACKGROUND <= own[nearest] < RIGHT:
        return nearest, "localisation"
    if other[another] >= RIGHT:
        return another, "class"
    if own[nearest] >= RIGHT:
        return nearest, "duplicate"
    if max(own[nearest], other[another]) <= BACKGROUND:
        return -1, "background"
    return -1, "both"


class Kinds:
    """The mistakes of a split, image after image."""

    def __init__(self) -> None:
        """Starts without an image."""
        self._counts: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._true: list[int] = []
        self._unmatched: set[int] = set()
        self._missed: set[int] = set()
        # Class, confidence, kind and object of each detection.
        self._rows: list[tuple[int, float, str, int]] = []

    def add(
        self, predicted: Sequence[int], confidence: Sequence[float], true: Sequence[int], shared: Array, aside: Array
    ) -> Judged:
        """Adds an image, and returns what became of its detections of at least `CONFIDENCE`.

        Args:
            predicted: The class of each of D detections, down to a low confidence, the most confident first.
            confidence: The confidence of each.
            true: The class of each of N objects.
            shared: Their overlaps, D × N.
            aside: As `judge` takes it.
        """
        counted = sum(value >= CONFIDENCE for value in confidence)
        shown = judge(predicted[:counted], true, shared[:counted], aside[:counted])
        counts = shown.counts()
        self._counts += counts
        if (kind := dominating(counts)) is not None:
            self._images[kind] += 1
        every = judge(predicted[:MOST], true, shared[:MOST], aside[:MOST])
        first = len(self._true)
        self._true.extend(true)
        self._unmatched.update(first + index for index in every.unmatched)
        self._missed.update(first + index for index in every.missed)
        for index, score, kind, about in zip(predicted, confidence, every.kinds, every.objects, strict=False):
            if kind != ASIDE:
                self._rows.append((index, score, kind, about if about < 0 else first + about))
        return shown

    def result(self) -> dict[str, dict[str, float]]:
        """By kind its ``count``, the number of ``images`` in which it is the most frequent, and ``dAP``.

        ``dAP`` is what AP at an overlap of 0.5 would gain if every mistake of the kind, among all detections whatever their confidence,
        were put right; it is left out where the split has fewer than LEAST objects. A detection of the wrong class, or of a place that is not
        right, becomes right unless a more confident one of the same kind, or a match, has its object; a detection of another kind goes;
        a missed object is no longer looked for.
        """
        result = {kind: {"count": float(self._counts[kind]), "images": float(self._images[kind])} for kind in KINDS}
        if len(self._true) < LEAST:
            return result
        now = self.average_precision()
        for kind, values in result.items():
            values["dAP"] = max(0.0, self.average_precision(kind) - now)
        return result

    def average_precision(self, fixed: str | None = None) -> float:
        """AP at an overlap of `RIGHT` over all classes with an object, where the mistakes of a kind are put right."""
        rows: dict[int, list[tuple[float, bool]]] = {}
        taken: set[int] = set()
        # The most confident first, so that of several about an object it is the one that becomes right.
        for index, score, kind, about in sorted(self._rows, key=lambda row: -row[1]):
            if kind != fixed:
                rows.setdefault(index, []).append((score, kind == MATCHED))
            elif kind in ("class", "localisation") and about in self._unmatched and about not in taken:
                taken.add(about)
                rows.setdefault(self._true[about], []).append((score, True))
        objects = Counter(self._true)
        gone = Counter(self._true[index] for index in self._missed) if fixed == "missed" else Counter()
        return float(np.mean([_average(rows.get(index, []), objects[index] - gone[index]) for index in objects]))


def dominating(counts: Counter[str]) -> str | None:
    """The most frequent kind, of equally frequent ones the first of `KINDS`; None without a mistake."""
    return max(KINDS, key=lambda kind: counts[kind]) if counts.total() else None


def _average(rows: Sequence[tuple[float, bool]], objects: int) -> float:
    """COCO's average precision of a class from its detections, the most confident first, and the number of its objects.

    A class of which nothing is left to be found has 1, or 0 where something is detected all the same.
    """
    if not objects:
        return 0.0 if rows else 1.0
    right = np.array([right for _, right in rows], float)
    if not right.any():
        return 0.0
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    at = np.searchsorted(hits / objects, _RECALLS)
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())
