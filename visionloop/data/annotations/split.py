"""Which split an image belongs to: by the hash of its file name or group, so that it never moves as the dataset grows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.groups import FOLDER, REGEX, field_of, groups_of
from visionloop.data.annotations.split_rules import (
    FoldRule,
    Rule,
    SharedSplit,
    SplitRule,
    TimeRule,
    fraction,
    parsed_date,
)
from visionloop.data.annotations.tables import SPLITS, Annotations, Split
from visionloop.data.sentences import printable, shown

#: Train comes first: an empty train is filled first, and images are taken from it first.
_FILLING_ORDER: tuple[Split, ...] = ("train", "test", "val")

_SPLITS_BY_NAME: dict[str, Split] = {split: split for split in SPLITS}

#: The most file names or groups that are hashed in search of a seed that leaves no split empty.
_HASHES = 100_000

#: Fills a split that no image's ``split`` field names: val and test get a tenth of the train images each.
FILL = SplitRule(train=0.8, val=0.1, test=0.1)


@dataclass(frozen=True)
class Assignment:
    """The split of each image by file name.

    Attributes:
        splits: The split of each image.
        also: Another split that an image counts for as well.
        notices: A sentence for each split that was filled, or that shares its images.
    """

    splits: dict[str, Split]
    also: Mapping[str, Split] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of images in each of the three splits."""
        counted = Counter((*self.splits.values(), *self.also.values()))
        return {split: counted[split] for split in SPLITS}

    def digest(self) -> str:
        """SHA-256 of the splits, 64 hex digits, whatever their order."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            splits = [self.splits[name], self.also[name]] if name in self.also else [self.splits[name]]
            # As RFC 8785 writes texts, which is how the standard library escapes them.
            digest.update(json.dumps([name, *splits], ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()


def assign(
    read: Annotations, rule: Rule | None, origin: str = "--split", hashed: Sequence[str] | None = None
) -> Assignment:
    """Gives each image its split.

    With a rule, only u decides, the ``fraction`` of the file name, or of the group if the image has one: u < test is test,
    u < test + val is val, anything else is train. Without a rule the ``split`` column decides, and a missing one means train;
    if no image is in val or test, that split is filled from the train images by ``FILL``.

    With a ``SharedSplit`` the ``split`` column decides, nothing is filled, and the images of one split count for the other one as
    well. So do images that the dataset itself gives to both, unless a rule gives each image one split.

    A split that should have images but stays empty (in a small dataset) gets the image, or group, with the smallest u, from
    train if train keeps another. So an image never moves as the dataset grows, except one that was moved this way: a notice
    names it, and a seed with which nothing is moved. What is train stays train, unless train had nothing to spare.
    A fold that stays empty is refused, and so are a split that no date falls into, and one that no folder and no match of a
    pattern falls into: with these rules no image moves at all.

    Args:
        read: The annotations; their column ``group`` holds the values of the field that the rule names.
        rule: The run's or the dataset's rule, or None.
        origin: Where the rule was written, for errors.
        hashed: The name of each image that decides in place of its file name, by row: that in its own dataset, of several.

    Raises:
        InvalidConfig: If the group of a rule groups nothing.
        InvalidDataset: If there are too few images to fill each of these splits.
    """
    names: list[str] = read.images["file_name"].to_pylist()
    stated = {
        name: _SPLITS_BY_NAME.get(split or "train", "train")
        for name, split in zip(names, read.images["split"].to_pylist(), strict=True)
    }
    if isinstance(rule, SharedSplit):
        return _shared(read.file, stated, rule)
    if isinstance(rule, TimeRule):
        return _by_date(read, names, rule, origin)
    notices: list[str] = []
    also: dict[str, Split] = {}
    keys: dict[str, str] = {} if hashed is None else dict(zip(names, hashed, strict=True))
    wanted: list[Split]
    if rule is not None:
        groups = groups_of(read, rule.group, hashed)
        keys |= {name: group for name, group in zip(names, groups, strict=True) if group is not None}
        splits = {name: rule.of(keys.get(name, name)) for name in names}
        movable = names
        alone = [name for name, group in zip(names, groups, strict=True) if group is None]
        if rule.group is not None and alone:
            notices.append(f"{read.file}: {_alone(rule.group, len(alone))} split by file name: {listed(alone)}.")
        notices += _given_one_split(read)
        if isinstance(rule, FoldRule):
            _refuse_empty_fold(splits, rule, origin)
            return Assignment(splits, also, tuple(notices))
        wanted = [split for split in _FILLING_ORDER if getattr(rule, split)]
    else:
        also = dict.fromkeys(read.shared, "test")
        splits = stated
        movable = [name for name in names if splits[name] == "train"]
        wanted = list(_FILLING_ORDER)
        for split in [split for split in wanted if not _has_images(split, splits, also)]:
            moved = [name for name in movable if FILL.of(keys.get(name, name)) == split]
            splits.update(dict.fromkeys(moved, split))
            if moved:
                notices.append(
                    f"{read.file}: no image is in {split}; by the hash of their file names it got {len(moved)} of "
                    f"{len(movable)} train images: {listed(moved)}."
                )
    together: dict[str, list[str]] = {}
    for name in movable:
        together.setdefault(keys.get(name, name), []).append(name)
    lacking = [split for split in wanted if not _has_images(split, splits, also)]
    seed = _seed_that_fills(rule, together) if lacking and isinstance(rule, SplitRule) else None
    if lacking and rule is not None and rule.group is not None and field_of(rule.group) is None:
        other = "larger fractions, or images of more groups" if seed is None else f"seed={seed}, with which none is"
        left = f"{len(together)} groups (group={rule.group}) leave {' and '.join(lacking)} empty"
        raise InvalidDataset(printable(f"{origin}: the {left}; give {other}."))
    remedy = "" if seed is None else f"; with seed={seed} no split stays empty, and no image moves later"
    for split in lacking:
        notices += _fill_empty(split, splits, together, (rule or FILL).seed, read.file, remedy)
    empty = [split for split in wanted if not _has_images(split, splits, also)]
    if empty:
        raise InvalidDataset(
            f"{f'{read.file}: images[].split' if rule is None else origin}: the {len(names)} images leave "
            f"{' and '.join(empty)} empty; label more images, or change the split."
        )
    return Assignment(splits, also, tuple(notices))


def _by_date(read: Annotations, names: Sequence[str], rule: TimeRule, origin: str) -> Assignment:
    """The split of each image by the date in its field; one without a date is train."""
    values: list[str | None] = read.images["group"].to_pylist()
    # Frames of one video share a date, so each is parsed once.
    dates = {text: parsed_date(text) for text in set(values) if text is not None}
    dated = {name: date for name, text in zip(names, values, strict=True) if text is not None and (date := dates[text])}
    if names and not dated:
        example = next((text for text in values if text is not None), "")
        raise InvalidDataset(
            f"{read.file}: no image has a date in {shown(rule.field)} (but {shown(example)}); write dates such as "
            f"2026-01-31, or name another field in {origin}."
        )
    splits: dict[str, Split] = {name: rule.of(dated[name]) if name in dated else "train" for name in names}
    notices = _given_one_split(read)
    if undated := [name for name in names if name not in dated]:
        verbs = "image has no date in {}, and is" if len(undated) == 1 else "images have no date in {}, and are"
        words = printable(verbs.format(rule.field))
        notices.append(f"{read.file}: {len(undated)} {words} train: {listed(undated)}.")
    if empty := [split for split in SPLITS if split not in splits.values()]:
        first, last = min(dated.values()).isoformat(), max(dated.values()).isoformat()
        raise InvalidDataset(
            f"{origin}: the dates leave {' and '.join(empty)} empty; those of {shown(rule.field)} are from {first} "
            f"to {last}: give other dates."
        )
    return Assignment(splits, {}, tuple(notices))


def _refuse_empty_fold(splits: Mapping[str, Split], rule: FoldRule, origin: str) -> None:
    """Raises InvalidDataset if a split has no image: a fold is never filled from another, or folds would overlap."""
    if empty := [split for split in SPLITS if split not in splits.values()]:
        groups = "" if rule.group is None else f" in their groups (group={rule.group})"
        raise InvalidDataset(
            printable(
                f"{origin}: fold={rule.number}/{rule.folds}: the {len(splits)} images{groups} leave {' and '.join(empty)} "
                "empty; take fewer folds or another seed, or label more images."
            )
        )


def _given_one_split(read: Annotations) -> list[str]:
    """A notice for the images that the dataset gives to val and test, where a rule gives each image one split."""
    if not read.shared:
        return []
    return [
        f"{read.file}: {len(read.shared)} images are in val and test, and get one split each by the rule: "
        f"{listed(read.shared)}."
    ]


def _alone(group: str, count: int) -> str:
    """How many images have no group, and what they are in its place: ``2 images have no patient, and are``."""
    single = count == 1
    if group == FOLDER:
        words = "lies in no folder" if single else "lie in no folder"
    elif group.startswith(REGEX):
        words = f"{'does' if single else 'do'} not match {group.removeprefix(REGEX)}"
    else:
        words = f"{'has' if single else 'have'} no {group}"
    return printable(f"{count} {'image' if single else 'images'} {words}, and {'is' if single else 'are'}")


def _has_images(split: Split, splits: Mapping[str, Split], also: Mapping[str, Split]) -> bool:
    return split in splits.values() or split in also.values()


def _shared(file: str, splits: dict[str, Split], rule: SharedSplit) -> Assignment:
    """The splits that the images state, with a notice that those of one split are seen as another."""
    counted = Counter(splits.values())
    for needed in ("train", rule.source):
        if not counted[_SPLITS_BY_NAME[needed]]:
            raise InvalidDataset(
                f"{file}: images[].split: no image is in {needed}, which --split {rule.split}={rule.source} needs; "
                "give the images another split, or the option fractions."
            )
    seen = "the best epoch is chosen on them, so what is measured on test flatters the model"
    notice = f"{file}: the {counted[rule.source]} images of {rule.source} are {rule.split} as well: {seen}."
    also = {name: rule.split for name, split in splits.items() if split == rule.source}
    return Assignment(splits, also, (notice,))


def _fill_empty(
    split: Split, splits: dict[str, Split], together: Mapping[str, Sequence[str]], seed: int, file: str, remedy: str
) -> list[str]:
    """Gives an empty split the group (or the single image) with the smallest u, from train if train keeps another."""
    for donor in _FILLING_ORDER:
        spare = [key for key, members in together.items() if splits[members[0]] == donor]
        if len(spare) > 1:
            taken = together[min(spare, key=lambda key: (fraction(key, seed), key))]
            splits.update(dict.fromkeys(taken, split))
            return [
                f"{file}: {split} stayed empty and got from {donor} what has the smallest hash, {listed(taken)}; "
                f"this may move again as the dataset grows{remedy}."
            ]
    return []


def _seed_that_fills(rule: SplitRule, groups: Collection[str]) -> int | None:
    """The first seed with which each split has an image by itself, so that none moves; None if none is near."""
    wanted = {split for split in SPLITS if getattr(rule, split)}
    for seed in range(_HASHES // max(1, len(groups))):
        seeded = replace(rule, seed=seed)
        if {seeded.of(group) for group in groups} == wanted:
            return seed
    return None


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names in alphabetical order, and the number of the others."""
    first = printable(", ".join(sorted(names)[:shown]))
    return first if len(names) <= shown else f"{first} and {len(names) - shown} more"
