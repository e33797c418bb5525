"""Images of two splits that look alike: pairs whose 64-bit hashes differ in a few bits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from visionloop.data.annotations.checks import about_image
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.images import images
from visionloop.data.annotations.tables import SPLITS, Annotations
from visionloop.data.sentences import printable

#: The pairs that have a finding each.
LISTED = 1_000

#: A hash's parts: where two hashes differ in at most 2 · PARTS - 1 bits, one of the parts differs in at most one bit.
PARTS, PART_BITS = 4, 16

#: The pairs of hashes that are compared at a time, and in all: hashes of real pictures gather, and every pair would take years.
AT_ONCE, MOST_COMPARED = 2**21, 2**31

Hashes = npt.NDArray[np.uint64]
Whole = npt.NDArray[np.int64]


@dataclass
class NearPairs:
    """Images of different splits that look alike.

    Attributes:
        listed: The nearest pairs, LISTED at most: the bits that differ, and the two rows.
        total: How many pairs there are.
        whole: Whether all were looked for: not if there were more than MOST_COMPARED candidates.
    """

    listed: list[tuple[int, int, int]] = field(default_factory=list)
    total: int = 0
    whole: bool = True

    def ordered(self, masks: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
        """The rows of each listed pair: first the one in train, else in val, about which its finding is."""
        pairs = (sorted((first, second), key=lambda row: (int(masks[row]), row)) for _, first, second in self.listed)
        return [(first, second) for first, second in pairs]


def near_pairs(
    hashes: Hashes,
    rows: Whole,
    masks: npt.NDArray[np.uint8],
    distance: int,
    alive: Callable[[], None] = lambda: None,
) -> NearPairs:
    """Finds the pairs of images in different splits whose hashes differ in at most ``distance`` bits.

    Equal hashes are taken together first, so that thousands of equal pictures are one; their pairs are counted, not made.

    Args:
        hashes: The hash of each image; of images with the same bytes one, for ``same_bytes`` speaks of the others.
        rows: Its row in the table.
        masks: The splits that it counts for, as bits.
        distance: 0 to 7.
        alive: Called now and then.
    """
    near = NearPairs()
    if not len(hashes):
        return near
    distinct, group = np.unique(hashes, return_inverse=True)
    groups = _Groups(group.astype(np.int64), rows, masks)
    near.total = groups.within()
    nearest: list[tuple[int, int, int]] = [(0, number, number) for number in groups.mixed(LISTED)]
    if distance:
        for first, second, bits in _candidates(distinct, distance, near):
            alive()
            leaks = groups.between(first, second)
            near.total += int(leaks.sum())
            across = np.flatnonzero(leaks)
            nearest += zip(bits[across].tolist(), first[across].tolist(), second[across].tolist(), strict=True)
            nearest = heapq.nsmallest(LISTED, nearest)
    pairs = (pair for bits, first, second in sorted(nearest) for pair in groups.pairs(bits, first, second))
    near.listed = list(itertools.islice(pairs, LISTED))
    return near


def near_duplicates(
    read: Annotations, near: NearPairs, masks: npt.NDArray[np.uint8], distance: float
) -> Iterator[Finding]:
    """The findings of pairs: one about the image of each listed pair that is in train, else in val, and one of how many there are."""
    pairs, names = near.ordered(masks), read.images["key"]
    about = images(read, [row for row, _ in pairs])
    for (bits, _, _), (row, other), image in zip(near.listed, pairs, about, strict=True):
        problem = (
            f"{image.key} of {_splits(int(masks[row]))} looks like {names[other].as_py()} of {_splits(int(masks[other]))} "
            f"({bits} of 64 bits differ)"
        )
        remedy = "if both show the same, put them into one split, or remove one of them"
        yield about_image(read, "warning", "near_duplicate", image, "file_name", problem, remedy)
    if near.total > len(near.listed) or not near.whole:
        least = "" if near.whole else "at least "
        problem = (
            f"{least}{near.total:,} pairs of images look alike across splits (at most {distance:g} of 64 bits differ), of which "
            f"{len(near.listed):,} are listed; split by groups of images that belong together"
        )
        yield Finding("warning", "near_duplicate", None, "images[]", printable(f"{read.file}: images[]: {problem}."))


def _splits(mask: int) -> str:
    return " and ".join(split for bit, split in enumerate(SPLITS) if mask >> bit & 1)


class _Groups:
    """The images of each distinct hash, counted by the splits that they count for."""

    def __init__(self, group: Whole, rows: Whole, masks: npt.NDArray[np.uint8]) -> None:
        self.rows, self.masks, self.group = rows, masks, group
        self.order = np.argsort(group, kind="stable")
        self.bounds = np.searchsorted(group[self.order], np.arange(group.max() + 2))
        kinds = np.unique(masks)
        self.counts = np.stack([np.bincount(group[masks == kind], minlength=group.max() + 1) for kind in kinds])
        self.apart = [
            (first, second)
            for first, second in itertools.combinations(range(len(kinds)), 2)
            if not kinds[first] & kinds[second]
        ]

    def within(self) -> int:
        """The pairs of images of different splits with one hash."""
        return int(self._within().sum())

    def mixed(self, most: int) -> list[int]:
        """The first groups with such pairs."""
        return np.flatnonzero(self._within())[:most].tolist()  # type: ignore[no-any-return]

    def _within(self) -> Whole:
        pairs = np.zeros(self.counts.shape[1], np.int64)
        for first, second in self.apart:
            pairs += self.counts[first] * self.counts[second]
        return pairs

    def between(self, group: Whole, other: Whole) -> Whole:
        """The pairs of images of different splits, one of each group."""
        pairs = np.zeros(len(group), np.int64)
        for first, second in self.apart:
            pairs += self.counts[first][group] * self.counts[second][other]
            pairs += self.counts[second][group] * self.counts[first][other]
        return pairs

    def pairs(self, bits: int, group: int, other: int) -> Iterator[tuple[int, int, int]]:
        """The pairs of two groups' images, or of one group's, one by one."""
        if group == other:
            candidates: Iterator[tuple[int, int]] = itertools.combinations(self._of(group), 2)
        else:
            candidates = itertools.product(self._of(group), self._of(other))
        for first, second in candidates:
            if not self.masks[first] & self.masks[second]:
                yield bits, int(self.rows[first]), int(self.rows[second])

    def _of(self, group: int) -> list[int]:
        return self.order[self.bounds[group] : self.bounds[group + 1]].tolist()  # type: ignore[no-any-return]


def _candidates(distinct: Hashes, distance: int, near: NearPairs) -> Iterator[tuple[Whole, Whole, Whole]]:
    """Pairs of distinct hashes that differ in at most so many bits, each once, and how many bits that is.

    By the pigeonhole principle a pair agrees in a part but for ``flipped`` bits; it counts at the first such part.
    """
    flipped = 0 if distance < PARTS else 1
    compared = 0
    for part in range(PARTS):
        order = np.argsort(_part(distinct, part), kind="stable")
        hashes = distinct[order]
        keys = _part(hashes, part).astype(np.int64)
        starts = np.searchsorted(keys, np.arange(2**PART_BITS + 1))
        for flip in [0, *(1 << bit for bit in range(PART_BITS if flipped else 0))]:
            # Each pair once: with those behind it, or with the key that has this bit more.
            lefts = np.flatnonzero(keys & flip == 0)
            begins = starts[keys[lefts] | flip] if flip else lefts + 1
            counts = starts[(keys[lefts] | flip) + 1] - begins
            for left, right, bits in _near(hashes, lefts, begins, counts, distance):
                compared += AT_ONCE
                differing = hashes[left] ^ hashes[right]
                kept = np.ones(len(left), bool)
                for earlier in range(part):
                    kept &= np.bitwise_count(_part(differing, earlier)) > flipped
                yield order[left[kept]], order[right[kept]], bits[kept]
                if compared > MOST_COMPARED:
                    near.whole = False
                    return


def _part(hashes: Hashes, part: int) -> Hashes:
    return (hashes >> np.uint64(part * PART_BITS)) & np.uint64(2**PART_BITS - 1)


def _near(
    hashes: Hashes, lefts: Whole, begins: Whole, counts: Whole, distance: int
) -> Iterator[tuple[Whole, Whole, Whole]]:
    """Compares each hash with those of its range, about AT_ONCE pairs at a time; yields the pairs that are near, and their bits."""
    totals = np.concatenate([[0], np.cumsum(counts)])
    first = 0
    while first < len(lefts):
        last = max(first + 1, int(np.searchsorted(totals, totals[first] + AT_ONCE, "right")) - 1)
        repeated = counts[first:last]
        shift = np.repeat(begins[first:last] - totals[first:last] + totals[first], repeated)
        right = shift + np.arange(len(shift))
        bits = np.bitwise_count(np.repeat(hashes[lefts[first:last]], repeated) ^ hashes[right])
        near = np.flatnonzero(bits <= distance)
        left = lefts[np.searchsorted(totals, near + totals[first], "right") - 1]
        yield left, right[near], bits[near].astype(np.int64)
        first = last
