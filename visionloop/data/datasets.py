"""Which datasets a run takes: one URI, or several, each with a name and a weight."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from visionloop.core.encodings import is_half
from visionloop.core.errors import InvalidConfig
from visionloop.core.stores import local_path, normalise_uri
from visionloop.core.workspace import check_each_apart
from visionloop.data.sentences import printable, shown

#: The most datasets of a run.
MOST = 100

#: The largest weight: how often an image may be repeated.
LARGEST_WEIGHT = 100

#: The most characters of a dataset's name.
LONGEST_NAME = 100

#: What an element of the list may be, for errors.
EXAMPLE = '["s3://bucket/day", {"uri": "s3://bucket/night", "name": "night", "weight": 2}]'

_FIELDS = ("uri", "name", "weight")

#: Characters that no part of a file name may hold, or that turn the direction of a text.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class RunDataset:
    """One of a run's datasets.

    Attributes:
        uri: Where it lies.
        name: What it is called, and the first folder of its images' file names where another dataset has the same ones. In
            Unicode's normal form C, other than those of the run's other datasets whatever the case of the letters.
        weight: How often each of its train images counts: 2 repeats it, 0.5 leaves out every second one.
    """

    uri: str
    name: str
    weight: float = 1

    def canonical(self) -> dict[str, Any]:
        """The dataset as a JSON object; a weight of 1 is left out."""
        value: dict[str, Any] = {"uri": self.uri, "name": self.name}
        return value if self.weight == 1 else value | {"weight": self.weight}


def parse_datasets(value: str | Iterable[object], option: str = "--dataset") -> tuple[RunDataset, ...]:
    """Reads what a run is asked to take.

    Args:
        value: A URI or path, the JSON text of a list or of one object, or the elements of such a list, each a URI, an object or
            its text.
        option: What it was given as, for errors.

    Raises:
        InvalidConfig: If it is neither, names no dataset or more than MOST, one twice or one that lies in another one, or has a
            name or weight that can't be used.
    """
    entries = _entries(value, option)
    names = _names([(uri, name) for uri, name, _ in entries], option)
    return tuple(RunDataset(uri, name, weight) for (uri, _, weight), name in zip(entries, names, strict=True))


def alone(datasets: Sequence[RunDataset]) -> bool:
    """Whether it is one dataset as it lies: then its name says nothing, and nothing is repeated or left out."""
    return len(datasets) == 1 and datasets[0].weight == 1


def recorded(value: object) -> tuple[RunDataset, ...]:
    """The datasets that a receipt holds, as ``parameter`` gave them."""
    if isinstance(value, list):
        return tuple(RunDataset(entry["uri"], entry["name"], entry.get("weight", 1)) for entry in value)
    return (RunDataset(str(value), _last_part(str(value))),)


def parameter(datasets: Sequence[RunDataset]) -> str | list[dict[str, Any]]:
    """What a receipt holds: the URI of a dataset alone, else a list of objects, which ``parse_datasets`` reads too."""
    return datasets[0].uri if alone(datasets) else [entry.canonical() for entry in datasets]


def datasets_text(value: str | Iterable[object]) -> str:
    """The datasets as an engine's form holds them: the URI of one alone, else a JSON list. Raises as ``parse_datasets``."""
    if alone(parse_datasets(value)):
        return parse_datasets(value)[0].uri
    entries: list[object] = []
    for uri, name, weight in _entries(value, "--dataset"):
        fields = {"uri": uri, "name": name, "weight": None if weight == 1 else weight}
        chosen = {key: entry for key, entry in fields.items() if entry is not None}
        entries.append(uri if len(chosen) == 1 else chosen)
    return json.dumps(entries, ensure_ascii=False)


def listed(uris: Sequence[str], most: int = 3) -> str:
    """The URIs of datasets, or their names, in a sentence: the first ones, and the number of the others."""
    if len(uris) > most:
        return f"{', '.join(uris[:most])} and {len(uris) - most} more"
    return " and ".join([", ".join(uris[:-1]), uris[-1]] if len(uris) > 1 else uris)


def dataset_sentence(counts: Mapping[str, Any]) -> str:
    """A dataset with its weight and counts, as ``Snapshot.dataset_counts`` gives them, for people."""
    said = [f"{counts['images']:,} images"] if "images" in counts else []
    if "weight" in counts:
        said.append(f"weight {counts['weight']:g}")
    said += [f"{counts[name]:,} {words}" for name, words in _COUNTED.items() if name in counts]
    return f"{counts['name']} ({counts['uri']}): {', '.join(said)}" if said else f"{counts['name']} ({counts['uri']})"


#: What a weight does to train images, by the name of the count.
_COUNTED = {"repeated": "repetitions in train", "left_out": "left out of train"}


def _entries(value: str | Iterable[object], option: str) -> list[tuple[str, str | None, float]]:
    """URI, name if one is given, and weight of each dataset."""
    elements = _elements(value, option)
    if not elements:
        raise InvalidConfig(f"{option}: the list of datasets is empty; name at least one, as in {EXAMPLE}.")
    if len(elements) > MOST:
        raise InvalidConfig(f"{option}: {len(elements):,} datasets are more than {MOST}; give fewer.")
    several = len(elements) > 1
    entries = [_entry(element, f"{option}[{index}]" if several else option) for index, element in enumerate(elements)]
    uris = [uri for uri, _, _ in entries]
    if repeated := next((uri for index, uri in enumerate(uris) if uri in uris[:index]), None):
        raise InvalidConfig(f"{option} names {repeated} twice; name it once, with a weight if it is to count more.")
    check_each_apart(uris)
    return entries


def _elements(value: str | Iterable[object], option: str) -> list[object]:
    """The elements of the list, as they are given."""
    if isinstance(value, str):
        text = value.lstrip()
        if not text.startswith("["):
            return [value]
        decoded = _decoded(text, option)
        if not isinstance(decoded, list):
            raise InvalidConfig(f"{option}: not a list of datasets; write it as in {EXAMPLE}.")
        return decoded
    elements = list(value)
    return _elements(elements[0], option) if len(elements) == 1 and isinstance(elements[0], str) else elements


def _entry(element: object, where: str) -> tuple[str, str | None, float]:
    """URI, name if one is given, and weight."""
    if isinstance(element, str) and element.lstrip().startswith("{"):
        element = _decoded(element, where)
    if isinstance(element, str) and element.lstrip().startswith("["):
        element = []
    if isinstance(element, str):
        return normalise_uri(element), None, 1
    if not isinstance(element, Mapping):
        raise InvalidConfig(f"{where} is neither a URI nor an object; write the datasets as in {EXAMPLE}.")
    if unknown := next((key for key in element if key not in _FIELDS), None):
        raise InvalidConfig(
            printable(f"{where}: {shown(str(unknown))} is not a field of a dataset; it has {', '.join(_FIELDS)}.")
        )
    uri = element.get("uri")
    if not isinstance(uri, str) or not uri:
        raise InvalidConfig(f"{where}: uri is missing or no text; write the datasets as in {EXAMPLE}.")
    return normalise_uri(uri), _name(element, where), _weight(element, where)


def _name(element: Mapping[str, object], where: str) -> str | None:
    name = element.get("name")
    if name is None:
        return None
    if not isinstance(name, str):
        raise InvalidConfig(f"{where}: name is not text; give a name such as night, or leave it out.")
    name = unicodedata.normalize("NFC", name) if not is_half(name) else name
    if is_half(name) or _UNSAFE.search(name) or name != name.strip() or name in ("", ".", ".."):
        raise InvalidConfig(
            f"{where}: the name {name[:80]!a} can't be a folder's: it is empty, '.' or '..', has a space at an end, a slash, a "
            "backslash or a character that is not printable; give another."
        )
    if len(name) > LONGEST_NAME:
        raise InvalidConfig(
            f"{where}: the name has {len(name):,} characters, more than {LONGEST_NAME}; give a shorter one."
        )
    return name


def _weight(element: Mapping[str, object], where: str) -> float:
    weight = element.get("weight", 1)
    number = not isinstance(weight, bool) and isinstance(weight, int | float) and math.isfinite(weight)
    if not number or not 0 < weight <= LARGEST_WEIGHT:  # type: ignore[operator] # it is a number
        raise InvalidConfig(
            printable(
                f"{where}: weight is {shown(weight) if isinstance(weight, str) else weight}; give a number above 0 up to "
                f"{LARGEST_WEIGHT}: 2 repeats each train image, 0.5 leaves out half of them."
            )
        )
    whole = float(weight)  # type: ignore[arg-type]
    return int(whole) if whole.is_integer() else whole


def _names(entries: Sequence[tuple[str, str | None]], option: str) -> list[str]:
    """The name of each: as it is given, else the last part of its URI, with -2, -3 … where another one has it."""
    taken: set[str] = set()
    for _, name in entries:
        if name is None:
            continue
        if _folded(name) in taken:
            raise InvalidConfig(printable(f"{option}: two datasets have the name {shown(name)}; give each its own."))
        taken.add(_folded(name))
    names = []
    for uri, name in entries:
        if name is None:
            last, number = _last_part(uri), 2
            name = last
            while _folded(name) in taken:
                name, number = f"{last}-{number}", number + 1
            taken.add(_folded(name))
        names.append(name)
    return names


def _last_part(uri: str) -> str:
    path = local_path(uri)
    last = uri.rstrip("/").rpartition("/")[2] if path is None else path.name
    last = _UNSAFE.sub("-", unicodedata.normalize("NFC", last).encode(errors="replace").decode())
    return last.strip()[:LONGEST_NAME] or "dataset"


def _folded(name: str) -> str:
    """Names that some file systems take for one are equal."""
    return unicodedata.normalize("NFC", name.casefold())


def _decoded(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidConfig(f"{where}: not JSON ({error}); write the datasets as in {EXAMPLE}.") from None
