"""The rules that split a dataset: fractions, folds, fixed dates, or one split's images for another; as options and as objects."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from visionloop.core.encodings import is_half
from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.groups import REGEX, check_group, field_of
from visionloop.data.annotations.tables import SPLITS, Split

#: The fractions of a rule sum to 1 within this.
TOLERANCE = 1e-9

#: What the option takes, for errors.
FORMS = "train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD], fold=1/5[,seed=0][,group=FIELD] or time=FIELD,val=DATE,test=DATE"

_SPLITS_BY_NAME: dict[str, Split] = {split: split for split in SPLITS}

_KEYS = ("train", "val", "test", "seed", "group")
_FOLD_KEYS = ("fold", "seed", "group")
_TIME_KEYS = ("time", "val", "test")

#: A group by a pattern takes the rest of the option.
_PATTERN = re.compile(rf"(?:^|,)\s*group\s*=\s*{REGEX}")

#: The fewest folds: one each for train, val and test.
FEWEST_FOLDS = 3

Canonical = dict[str, float | int | str | None]


@dataclass(frozen=True)
class SplitRule:
    """Fractions of the images for each split, a seed, and what keeps images together.

    ``group`` names a field of an image, or of its ``metadata`` or ``attributes`` (looked for in this order), or is ``folder``
    or ``regex:`` with a pattern.
    """

    train: float
    val: float
    test: float
    seed: int = 0
    group: str | None = None

    @property
    def field(self) -> str | None:
        """The field that a reader must read of each image."""
        return field_of(self.group)

    def canonical(self) -> Canonical:
        """The rule as a JSON object, for a stage's key."""
        return {"train": self.train, "val": self.val, "test": self.test, "seed": self.seed, "group": self.group}

    def of(self, name: str) -> Split:
        """The split of a file name or group."""
        u = fraction(name, self.seed)
        if u < self.test:
            return "test"
        return "val" if u < self.test + self.val else "train"


@dataclass(frozen=True)
class FoldRule:
    """One of several folds: fold ``number`` (from 1) of ``folds`` is test, the next one val (after the last the first)."""

    number: int
    folds: int
    seed: int = 0
    group: str | None = None

    @property
    def field(self) -> str | None:
        """The field that a reader must read of each image."""
        return field_of(self.group)

    def canonical(self) -> Canonical:
        """The rule as a JSON object, for a stage's key."""
        return {"fold": f"{self.number}/{self.folds}", "seed": self.seed, "group": self.group}

    def of(self, name: str) -> Split:
        """The split of a file name or group: u in [(k − 1)/n, k/n) is fold k."""
        u = fraction(name, self.seed)
        if self._in(u, self.number):
            return "test"
        return "val" if self._in(u, self.number % self.folds + 1) else "train"

    def _in(self, u: float, number: int) -> bool:
        return (number - 1) / self.folds <= u < number / self.folds


@dataclass(frozen=True)
class TimeRule:
    """Fixed dates: at or after ``test`` is test, at or after ``val`` val, before it train; so is an image without a date."""

    field: str
    val: datetime
    test: datetime

    def canonical(self) -> Canonical:
        """The rule as a JSON object, for a stage's key."""
        return {"time": self.field, "val": _utc(self.val), "test": _utc(self.test)}

    def of(self, date: datetime) -> Split:
        """The split of an image with a date."""
        if date >= self.test:
            return "test"
        return "val" if date >= self.val else "train"


@dataclass(frozen=True)
class SharedSplit:
    """One split's images given to another one as well, for a dataset that has two: ``test=val`` or ``val=test``."""

    split: Split
    source: Split

    def canonical(self) -> Canonical:
        """The rule as a JSON object, for a stage's key."""
        return {self.split: self.source}


Rule = SplitRule | FoldRule | TimeRule | SharedSplit


def shared_split(rule: object) -> SharedSplit | None:
    """The rule that ``SharedSplit.canonical`` gives, read back; None for any other."""
    if isinstance(rule, Mapping) and len(rule) == 1:
        ((split, source),) = rule.items()
        if {split, source} == {"val", "test"}:
            return SharedSplit(_SPLITS_BY_NAME[split], _SPLITS_BY_NAME[source])
    return None


def parse_split(text: str) -> Rule:
    """Reads ``train=0.8,val=0.1,test=0.1[,seed=0][,group=…]``, ``fold=2/5[,seed=0][,group=…]``,
    ``time=FIELD,val=DATE,test=DATE``, or ``test=val`` or ``val=test``.

    A split that is not named has the fraction 0. ``group=regex:PATTERN`` comes last and takes the rest of the text.

    Raises:
        InvalidConfig: If it is not of that form, or the fractions do not sum to 1 (tolerance 1e-9).
    """
    if is_half(text):
        raise InvalidConfig(f"--split: {text[:80]!a} holds half a character (a surrogate); leave it out.")
    values: dict[str, Any] = {}
    head, pattern = text, None
    if match := _PATTERN.search(text):
        head, pattern = text[: match.start()], text[match.end() :]
    for part in head.split(",") if head.strip() or pattern is None else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key in values:
            raise InvalidConfig(f"--split: {text!r} is not of the form {FORMS}; give each key once, with a value.")
        values[key] = value
    if pattern is not None:
        if "group" in values:
            raise InvalidConfig(f"--split: {text!r} has group twice; give it once.")
        values["group"] = f"{REGEX}{pattern}"
    if named := next((f"{key}={value}" for key, value in values.items() if key in SPLITS and value in SPLITS), None):
        if shared := shared_split(values):
            return shared
        raise InvalidConfig(
            f"--split: {text!r} names a split as another; give test=val or val=test alone, without fractions "
            f"and without {named} beside them."
            if len(values) > 1
            else f"--split: {text!r} would train on what is measured; give test=val or val=test."
        )
    numbers = ("seed",) if "time" in values or "fold" in values else ("seed", *SPLITS)
    values = {key: _parsed_number(value, key) if key in numbers else value for key, value in values.items()}
    return split_from_object(values, "--split")


def split_from_object(value: object, where: str) -> SplitRule | FoldRule | TimeRule:
    """A rule from an object: ``train``, ``val``, ``test``, ``seed`` and ``group``; ``fold`` in place of the fractions; or ``time``,
    ``val`` and ``test``.

    Args:
        value: The run's ``split_strategy``, or ``split_config`` of the dataset's metadata.json.
        where: Where the object comes from, for errors (``metadata.json: split_config``).

    Raises:
        InvalidConfig: If it is not such an object, or the fractions do not sum to 1 (tolerance 1e-9).
    """
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"{where}: expected an object with the keys {', '.join(_KEYS)}, got {value!r}.")
    unknown = sorted(str(key) for key in value if key not in {*_KEYS, *_FOLD_KEYS, *_TIME_KEYS})
    if unknown:
        raise InvalidConfig(
            f"{_named(where, unknown[0])} is not a setting of a split; choose from {', '.join(_KEYS)}, fold, time."
        )
    if "time" in value:
        return _time_rule(value, where)
    if "fold" in value:
        return _fold_rule(value, where)
    fractions = {split: _fraction_of(value.get(split, 0), _named(where, split)) for split in SPLITS}
    if abs(math.fsum(fractions.values()) - 1) > TOLERANCE:
        shown = ", ".join(f"{split} {amount:g}" for split, amount in fractions.items())
        raise InvalidConfig(f"{where}: the fractions {shown} do not sum to 1; change one of them.")
    if fractions["train"] == 0:
        raise InvalidConfig(
            f"{_named(where, 'train')} is 0, so nothing would be trained on; give it a fraction above 0."
        )
    return SplitRule(**fractions, seed=_seed(value, where), group=_group(value, where))


def fraction(name: str, seed: int = 0) -> float:
    """u in [0, 1): the first 53 bits of the SHA-256 of ``{seed}:{name}`` as a binary fraction."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def parsed_date(text: str) -> datetime | None:
    """A date, or date and time, of ISO 8601; in UTC unless it names an offset. None for anything else."""
    try:
        date = datetime.fromisoformat(text.strip())
        return (date.replace(tzinfo=UTC) if date.tzinfo is None else date).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _fold_rule(value: Mapping[str, Any], where: str) -> FoldRule:
    _refuse_beside(value, _FOLD_KEYS, "fold", where)
    text = value["fold"]
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text) if isinstance(text, str) else None
    if match is None:
        raise InvalidConfig(f"{_named(where, 'fold')} must be one of several folds, such as 2/5, not {text!r}.")
    number, folds = int(match[1]), int(match[2])
    if folds < FEWEST_FOLDS:
        raise InvalidConfig(
            f"{_named(where, 'fold')} {text}: there must be at least {FEWEST_FOLDS} folds, for train, val and test."
        )
    if not 1 <= number <= folds:
        raise InvalidConfig(
            f"{_named(where, 'fold')} {text}: there is no such fold; give 1/{folds} to {folds}/{folds}."
        )
    return FoldRule(number, folds, _seed(value, where), _group(value, where))


def _time_rule(value: Mapping[str, Any], where: str) -> TimeRule:
    _refuse_beside(value, _TIME_KEYS, "time", where)
    name = value["time"]
    if not isinstance(name, str) or not name.strip():
        raise InvalidConfig(f"{_named(where, 'time')} must name a field of the images, not {name!r}.")
    _check_field(name, _named(where, "time"))
    dates = {}
    for split in ("val", "test"):
        text = value.get(split)
        date = parsed_date(text) if isinstance(text, str) else None
        if date is None:
            problem = f"is {text!r}, which is not" if split in value else "is missing; give"
            raise InvalidConfig(
                f"{_named(where, split)} {problem} a date such as 2026-01-31 or 2026-01-31T12:00:00Z; "
                f"its images are from that date on."
            )
        dates[split] = date
    if dates["val"] >= dates["test"]:
        raise InvalidConfig(
            f"{where}: val={value['val']} does not lie before test={value['test']}, so val would be empty; change one."
        )
    return TimeRule(name.strip(), dates["val"], dates["test"])


def _refuse_beside(value: Mapping[str, Any], keys: tuple[str, ...], kind: str, where: str) -> None:
    """Raises InvalidConfig for a key that has no meaning together with ``fold`` or ``time``."""
    if beside := next((key for key in value if key not in keys), None):
        raise InvalidConfig(
            f"{_named(where, kind)} and {beside} are both given; with {kind} give {' and '.join(keys[1:])} alone."
        )


def _seed(value: Mapping[str, Any], where: str) -> int:
    seed = value.get("seed", 0)
    if isinstance(seed, float) and seed.is_integer():
        seed = int(seed)  # KFP hands every number over as a float.
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**53:
        raise InvalidConfig(f"{_named(where, 'seed')} must be a whole number below 2^53, not {seed!r}.")
    return seed


def _group(value: Mapping[str, Any], where: str) -> str | None:
    group = value.get("group")
    if group is None:
        return None
    if not isinstance(group, str) or not group.strip():
        raise InvalidConfig(f"{_named(where, 'group')} must name a field of the images, not {group!r}.")
    if field_of(group) is not None:
        _check_field(group, _named(where, "group"))
    check_group(group, _named(where, "group"))
    return group


def _check_field(name: str, where: str) -> None:
    """Raises InvalidConfig for a name that the reader of fields can't look for."""
    if not name.isprintable() or '"' in name or "\\" in name:
        raise InvalidConfig(
            f"{where} {name[:80]!a}: a field's name has no quotation marks, backslashes or control characters; name another one."
        )


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


def _utc(date: datetime) -> str:
    return date.isoformat().replace("+00:00", "Z")
