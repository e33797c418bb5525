"""The keys of a dataset's objects: which are images, how a name leads to one, and what folders say of the split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from posixpath import splitext

from visionloop.data.formats.listing import IMAGES, is_hidden
from visionloop.data.formats.source import Source
from visionloop.data.formats.splits import SPLITS, stated_split
from visionloop.data.sentences import shown

#: A word for a split with a year behind it or not, as the whole name of a folder.
_SPLIT_FOLDER = re.compile(r"(train|validation|valid|val|test)\d{0,4}", re.IGNORECASE)


def file_name(key: str) -> str:
    """An image's name in every format: its key below the dataset's URI without a leading ``images/``."""
    return key.removeprefix("images/")


def extension(key: str) -> str:
    """A key's extension in small letters, with its dot."""
    return splitext(key)[1].lower()


def stem(key: str) -> str:
    """A key without its extension."""
    return splitext(key)[0]


def split_word(word: str) -> str | None:
    """The split that a word means (``valid``, ``train2017``), or None."""
    match = _SPLIT_FOLDER.fullmatch(word)
    return SPLITS[match[1].lower()] if match else None


def split_of_folders(key: str) -> str | None:
    """The split that the last of a key's folders with such a name says, or None."""
    words = (split_word(part) for part in reversed(key.split("/")[:-1]))
    return next((split for split in words if split), None)


def split_of_file(key: str) -> str | None:
    """The split of an annotation file: of the last part of its key in which a word for one stands by itself, or None."""
    stated = stated_split(stem(key))
    return stated[0] if stated else None


def hint(name: str, keys: Sequence[str]) -> str:
    """How a name differs from the keys that are nearly equal to it."""
    key = keys[0]
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", key):
        return "they differ in their Unicode form"
    return "they differ in case" if _folded(name) == _folded(key) else "a folder is doubled"


def near(name: str) -> str:
    """What names share that differ in Unicode form, in case or by a doubled folder alone."""
    parts = _folded(name).split("/")
    return "/".join(part for index, part in enumerate(parts) if index == 0 or part != parts[index - 1])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@dataclass
class Keys:
    """The keys of a dataset that are not hidden.

    Attributes:
        all: Every such key, in the order of their UTF-8 bytes: a folder is listed in another one than a bucket.
        hidden: How many are hidden.
    """

    all: list[str]
    hidden: int = 0
    _missing: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source) -> Keys:
        """The keys that a source lists."""
        keys = source.objects()["key"].to_pylist()
        visible = sorted(key for key in keys if not is_hidden(key))
        return cls(visible, len(keys) - len(visible))

    def exports(self, ending: str, is_export: Callable[[str], bool]) -> list[str]:
        """The files of an extension that are exports of a tool; a single one whatever it is: then it is said what is wrong in it."""
        documents = [key for key in self.all if extension(key) == ending]
        return documents if len(documents) == 1 else [key for key in documents if is_export(key)]

    @cached_property
    def images(self) -> dict[str, None]:
        """The keys with an image's extension."""
        return {key: None for key in self.all if extension(key) in IMAGES}

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """The images by their keys without extension."""
        stems: dict[str, list[str]] = {}
        for key in self.images:
            stems.setdefault(stem(key), []).append(key)
        return stems

    @cached_property
    def image_folders(self) -> frozenset[str]:
        """The folders that hold images, each with its slash."""
        return frozenset(key[: key.rfind("/") + 1] for key in self.images)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The images by the last part of their keys."""
        names: dict[str, list[str]] = {}
        for key in self.images:
            names.setdefault(key.rpartition("/")[2], []).append(key)
        return names

    @cached_property
    def _near(self) -> dict[str, list[str]]:
        nearly: dict[str, list[str]] = {}
        for key in self.images:
            nearly.setdefault(near(file_name(key)), []).append(key)
        return nearly

    def missing(self, key: str) -> str:
        """The key of an image that does not exist; it is remembered for ``notices``."""
        if keys := self._near.get(near(file_name(key))):
            self._missing.append((key, keys[0]))
        return key

    def notices(self) -> Iterator[str]:
        """What is passed over, and the missing images that lie there under nearly the same name."""
        if self.hidden:
            yield f"{counted(self.hidden, 'hidden file is', 'hidden files are')} passed over."
        if self._missing:
            name, key = self._missing[0]
            more = f" ({len(self._missing) - 1:,} more)" if len(self._missing) > 1 else ""
            yield (
                f"{shown(name)} does not exist, but {shown(key)} does{more}: {hint(file_name(name), [file_name(key)])}; "
                "rename one of them."
            )


def counted(number: int, singular: str, plural: str) -> str:
    """A number with its words: ``1 image is``, ``2,000 images are``."""
    return f"{number:,} {singular if number == 1 else plural}"
