"""Which split an image belongs to: by the hash of its file name or group, so that it never moves as the dataset grows."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.tables import SPLITS, Annotations, Split
from visionloop.data.sentences import printable

#: The fractions of a rule sum to 1 within this.
TOLERANCE = 1e-9

#: Train comes first: an empty train is filled first, and images are taken from it first.
_FILLING_ORDER: tuple[Split, ...] = ("train", "test", "val")

_SPLITS_BY_NAME: dict[str, Split] = {split: split for split in SPLITS}

_KEYS = ("train", "val", "test", "seed", "group")


@dataclass(frozen=True)
class SplitRule:
    """Fractions of the images for each split, a seed, and the field whose value keeps images together.

    ``group`` names a field of an image, or of its ``metadata`` or ``attributes`` (looked for in this order).
    """

    train: float
    val: float
    test: float
    seed: int = 0
    group: str | None = None

    def canonical(self) -> dict[str, float | int | str | None]:
        """The rule as a JSON object, for a stage's key."""
        return {"train": self.train, "val": self.val, "test": self.test, "seed": self.seed, "group": self.group}

    def of(self, name: str) -> Split:
        """The split of a file name or group."""
        u = fraction(name, self.seed)
        if u < self.test:
            return "test"
        return "val" if u < self.test + self.val else "train"


@dataclass(frozen=True)
class SharedSplit:
    """One split's images given to another one as well, for a dataset that has two: ``test=val`` or ``val=test``."""

    split: Split
    source: Split

    def canonical(self) -> dict[str, float | int | str | None]:
        """The rule as a JSON object, for a stage's key."""
        return {self.split: self.source}


def shared_split(rule: object) -> SharedSplit | None:
    """The rule that ``SharedSplit.canonical`` gives, read back; None for any other."""
    if isinstance(rule, Mapping) and len(rule) == 1:
        ((split, source),) = rule.items()
        if {split, source} == {"val", "test"}:
            return SharedSplit(_SPLITS_BY_NAME[split], _SPLITS_BY_NAME[source])
    return None


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


def parse_split(text: str) -> SplitRule | SharedSplit:
    """Reads ``train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD]``, or ``test=val`` or ``val=test``.

    A split that is not named has the fraction 0.

    Raises:
        InvalidConfig: If it is not of that form, or the fractions do not sum to 1 (tolerance 1e-9).
    """
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key in values:
            raise InvalidConfig(
                f"--split: {text!r} is not of the form train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD]; "
                "give each key once, with a value."
            )
        values[key] = value
    if named := next((f"{key}={value}" for key, value in values.items() if key in SPLITS and value in SPLITS), None):
        if shared := shared_split(values):
            return shared
        raise InvalidConfig(
            f"--split: {text!r} names a split as another; give test=val or val=test alone, without fractions "
            f"and without {named} beside them."
            if len(values) > 1
            else f"--split: {text!r} would train on what is measured; give test=val or val=test."
        )
    values = {key: _parsed_number(value, key) if key in ("seed", *SPLITS) else value for key, value in values.items()}
    return split_from_object(values, "--split")


def split_from_object(value: object, where: str) -> SplitRule:
    """A rule from an object with the keys ``train``, ``val``, ``test``, ``seed`` and ``group``.

    Args:
        value: The run's ``split_strategy``, or ``split_config`` of the dataset's metadata.json.
        where: Where the object comes from, for errors (``metadata.json: split_config``).

    Raises:
        InvalidConfig: If it is not such an object, or the fractions do not sum to 1 (tolerance 1e-9).
    """
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"{where}: expected an object with the keys {', '.join(_KEYS)}, got {value!r}.")
    unknown = sorted(str(key) for key in value if key not in _KEYS)
    if unknown:
        raise InvalidConfig(f"{_named(where, unknown[0])} is not a setting of a split; choose from {', '.join(_KEYS)}.")
    fractions = {split: _fraction_of(value.get(split, 0), _named(where, split)) for split in SPLITS}
    if abs(math.fsum(fractions.values()) - 1) > TOLERANCE:
        shown = ", ".join(f"{split} {amount:g}" for split, amount in fractions.items())
        raise InvalidConfig(f"{where}: the fractions {shown} do not sum to 1; change one of them.")
    if fractions["train"] == 0:
        raise InvalidConfig(
            f"{_named(where, 'train')} is 0, so nothing would be trained on; give it a fraction above 0."
        )
    seed = value.get("seed", 0)
    if isinstance(seed, float) and seed.is_integer():
        seed = int(seed)  # KFP hands every number over as a float.
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**53:
        raise InvalidConfig(f"{_named(where, 'seed')} must be a whole number below 2^53, not {seed!r}.")
    group = value.get("group")
    if group is not None and (not isinstance(group, str) or not group.strip()):
        raise InvalidConfig(f"{_named(where, 'group')} must name a field of the images, not {group!r}.")
    return SplitRule(**fractions, seed=seed, group=group)


def fraction(name: str, seed: int = 0) -> float:
    """u in [0, 1): the first 53 bits of the SHA-256 of ``{seed}:{name}`` as a binary fraction."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def assign(read: Annotations, rule: SplitRule | SharedSplit | None, origin: str = "--split") -> Assignment:
    """Gives each image its split.

    With a rule, only u decides, the ``fraction`` of the file name, or of the group if the image has one: u < test is test,
    u < test + val is val, anything else is train. Without a rule the ``split`` column decides, and a missing one means train;
    if no image is in val or test, that split is filled from the train images by ``FILL``.

    With a ``SharedSplit`` the ``split`` column decides, nothing is filled, and the images of one split count for the other one as
    well. So do images that the dataset itself gives to both, unless a rule gives each image one split.

    A split that should have images but stays empty (in a small dataset) gets the image, or group, with the smallest u, from
    train if train keeps another. So an image never moves as the dataset grows, except one that was moved this way.

    Args:
        read: The annotations; their column ``group`` holds the values of the field that the rule names.
        rule: The run's or the dataset's rule, or None.
        origin: Where the rule was written, for errors.

    Raises:
        InvalidDataset: If there are too few images to fill each of these splits.
    """
    names: list[str] = read.images["file_name"].to_pylist()
    stated = {
        name: _SPLITS_BY_NAME.get(split or "train", "train")
        for name, split in zip(names, read.images["split"].to_pylist(), strict=True)
    }
    if isinstance(rule, SharedSplit):
        return _shared(read.file, stated, rule)
    notices: list[str] = []
    also: dict[str, Split] = {}
    keys: dict[str, str] = {}
    wanted: list[Split]
    if rule is not None:
        if rule.group is not None:
            grouped = zip(names, read.images["group"].to_pylist(), strict=True)
            keys = {name: group for name, group in grouped if group is not None}
        splits = {name: rule.of(keys.get(name, name)) for name in names}
        wanted = [split for split in _FILLING_ORDER if getattr(rule, split)]
        movable = names
        alone = [name for name in names if name not in keys]
        if keys and alone:
            verbs = "has no {}, and is" if len(alone) == 1 else "have no {}, and are"
            notices.append(
                f"{read.file}: {len(alone)} {'image' if len(alone) == 1 else 'images'} {verbs.format(rule.group)} "
                f"split by file name: {listed(alone)}."
            )
        if read.shared:
            notices.append(
                f"{read.file}: {len(read.shared)} images are in val and test, and get one split each by the rule: "
                f"{listed(read.shared)}."
            )
    else:
        also = dict.fromkeys(read.shared, "test")
        splits = stated
        movable = [name for name in names if splits[name] == "train"]
        wanted = list(_FILLING_ORDER)
        for split in [split for split in wanted if not _has_images(split, splits, also)]:
            moved = [name for name in movable if FILL.of(name) == split]
            splits.update(dict.fromkeys(moved, split))
            if moved:
                notices.append(
                    f"{read.file}: no image is in {split}; by the hash of their file names it got {len(moved)} of "
                    f"{len(movable)} train images: {listed(moved)}."
                )
    together: dict[str, list[str]] = {}
    for name in movable:
        together.setdefault(keys.get(name, name), []).append(name)
    for split in wanted:
        if not _has_images(split, splits, also):
            notices += _fill_empty(split, splits, together, (rule or FILL).seed, read.file)
    empty = [split for split in wanted if not _has_images(split, splits, also)]
    if empty:
        raise InvalidDataset(
            f"{f'{read.file}: images[].split' if rule is None else origin}: the {len(names)} images leave "
            f"{' and '.join(empty)} empty; label more images, or change the split."
        )
    return Assignment(splits, also, tuple(notices))


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
    split: Split, splits: dict[str, Split], together: Mapping[str, Sequence[str]], seed: int, file: str
) -> list[str]:
    """Gives an empty split the group (or the single image) with the smallest u, from train if train keeps another."""
    for donor in _FILLING_ORDER:
        spare = [key for key, members in together.items() if splits[members[0]] == donor]
        if len(spare) > 1:
            taken = together[min(spare, key=lambda key: (fraction(key, seed), key))]
            splits.update(dict.fromkeys(taken, split))
            return [
                f"{file}: {split} stayed empty and got from {donor} what has the smallest hash, {listed(taken)}; "
                "this may move again as the dataset grows."
            ]
    return []


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names in alphabetical order, and the number of the others."""
    first = printable(", ".join(sorted(names)[:shown]))
    return first if len(names) <= shown else f"{first} and {len(names) - shown} more"


def _parsed_number(text: str, key: str) -> float | int:
    """A number of ``--split``; a seed is a whole number."""
    try:
        return int(text) if key == "seed" else float(text)
    except ValueError:
        raise InvalidConfig(f"--split {key}: {text!r} is not a number; write it like 0.8 (a seed like 0).") from None


def _named(where: str, key: str) -> str:
    """A key of a rule in a sentence: after an option as it was written, else with the path of its object."""
    return f"{where} {key}" if where.startswith("--") else f"{where}.{key}"


def _fraction_of(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidConfig(f"{where} must be a number from 0 to 1, not {value!r}.")
    return float(value)
